"""The simulation of the core: real actors and committers over twins of the servers, under thousands of schedules."""
