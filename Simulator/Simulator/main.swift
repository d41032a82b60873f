// Simulator: runs the whole broker through simulated crashes, one seed after another.

SimulatorCommand.main()
