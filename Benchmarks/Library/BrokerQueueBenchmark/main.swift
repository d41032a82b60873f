// The program: everything is in BrokerQueueBenchmark.swift, because closures in this file would belong to the main actor.

try await BrokerQueueBenchmark.run()
