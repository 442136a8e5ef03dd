"""What is measured rather than tested: load on the bridge as it is deployed."""
