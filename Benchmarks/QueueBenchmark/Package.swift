// swift-tools-version: 6.2
import PackageDescription

// Outside the main package on purpose: it measures what a user's package gets.
let package = Package(
  name: "QueueBenchmark",
  dependencies: [.package(name: "millrace", path: "../..")],
  targets: [
    .executableTarget(
      name: "QueueBenchmark", dependencies: [.product(name: "Millrace", package: "millrace")],
      swiftSettings: [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)])
  ]
)
