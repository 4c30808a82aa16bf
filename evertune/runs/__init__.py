"""What a run remembers: whether there is anything to do, where it starts and where its rows came from."""
