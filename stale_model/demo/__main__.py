"""``python -m stale_model.demo``."""

from stale_model.demo.demo_command import main

main()
