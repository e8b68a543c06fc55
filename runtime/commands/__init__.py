"""The commands of the runtime: stale-run, stale-features and stale-eval. Nothing imports them."""
