// swift-tools-version: 6.2
import PackageDescription

// One package for all examples, so that the library is built once for them. It stands outside of the library's package and
// sees only what any embedder sees.

func example(_ name: String) -> Target {
  .executableTarget(
    name: name, dependencies: [.product(name: "Millrace", package: "millrace")], path: name,
    swiftSettings: [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)])
}

let package = Package(
  name: "examples",
  dependencies: [.package(name: "millrace", path: "..")],
  targets: [
    example("MessageQueue"),
    example("DataStream"),
    example("WordCount"),
    example("ClickWindows"),
    example("FraudRule"),
    example("RecommendationFeed"),
    example("MachineMetrics"),
    example("AnomalyDetector"),
    example("OrderPayments"),
    example("CustomerLookup"),
    example("Operators"),
    example("EmbeddedBroker"),
    example("QueueWorker"),
  ]
)
