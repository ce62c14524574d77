"""Items that a trained model recommends."""
