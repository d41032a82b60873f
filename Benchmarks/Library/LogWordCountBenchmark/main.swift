// The program: everything is in LogWordCountBenchmark.swift, because closures in this file would belong to the main actor.

await LogWordCountBenchmark.run()
