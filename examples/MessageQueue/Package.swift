// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "MessageQueue",
  dependencies: [.package(name: "millrace", path: "../..")],
  targets: [
    .executableTarget(
      name: "MessageQueue", dependencies: [.product(name: "Millrace", package: "millrace")],
      swiftSettings: [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)])
  ]
)
