"""The world as the bridge sees it, made of fakes with state: they keep the ports' contracts and count what happens."""
