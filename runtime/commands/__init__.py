"""The commands of the runtime: stale-run, stale-features, stale-eval and stale-merge. Nothing imports them."""
