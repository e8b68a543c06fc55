"""From network outputs to scored, labelled segments."""
