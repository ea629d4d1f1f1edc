"""The ablation study on MovingShapes."""
