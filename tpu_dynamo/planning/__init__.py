"""Plans for many chips: which layouts of a model fit a topology, what a step of each costs, and the best first."""
