"""A trained model judged again, under another protocol, without training."""
