"""What other people's tools open: rollouts as data sets and recordings, world models in the layout of a hub."""
