// WordCountBenchmark: words per second and core, from encoded record batches to counts.

WordCountBenchmark.main()
