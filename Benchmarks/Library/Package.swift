// swift-tools-version: 6.2
import PackageDescription

// Outside of the main package on purpose: these measure what a user's package gets from the library, across its border.

func benchmark(_ name: String) -> Target {
  .executableTarget(
    name: name, dependencies: [.product(name: "Millrace", package: "millrace")], path: name,
    swiftSettings: [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)])
}

let package = Package(
  name: "library-benchmarks",
  dependencies: [.package(name: "millrace", path: "../..")],
  targets: [
    benchmark("QueueBenchmark"),
    benchmark("BrokerQueueBenchmark"),
    benchmark("FusionBenchmark"),
    benchmark("LogWordCountBenchmark"),
  ]
)
