// The program: everything is in QueueBenchmark.swift, because closures in this file would belong to the main actor.

await QueueBenchmark.run()
