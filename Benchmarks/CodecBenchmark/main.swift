// CodecBenchmark: bids per second and core, as JSON and as CSV, read and written.

CodecBenchmark.main()
