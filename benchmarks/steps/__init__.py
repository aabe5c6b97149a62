"""What a step of a network costs: the implementations that `engine` compares, and the least that they must do."""
