"""The commands of the runtime: stale-run and stale-eval. Nothing imports them."""
