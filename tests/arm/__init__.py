"""What ``make arm`` runs: self-tests and detections on emulated processors, compared with this machine's."""
