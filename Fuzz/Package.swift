// swift-tools-version: 6.2
import PackageDescription

// The fuzzers: a package of their own, so that a normal build neither builds nor instruments them.
// Sources/ links to the targets under test; run.sh builds with the fuzzer and address sanitizers.

let settings: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

func library(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, path: "Sources/\(name)", swiftSettings: settings)
}

/// A program whose `main` is libFuzzer's.
func fuzzer(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .executableTarget(
    name: name, dependencies: dependencies, path: name,
    swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])])
}

let package = Package(
  name: "millrace-fuzz",
  targets: [
    .target(name: "CMillraceSystem", path: "Sources/CMillraceSystem", cSettings: [.unsafeFlags(["-O2", "-Werror"])]),
    library("MillraceBase", ["CMillraceSystem"]),
    library("MillraceModel", ["MillraceBase"]),
    library("MillraceKafkaProtocol", ["MillraceBase", "MillraceModel"]),
    fuzzer("RequestFuzzer", ["MillraceBase", "MillraceKafkaProtocol"]),
    fuzzer("RecordBatchFuzzer", ["MillraceBase", "MillraceModel"]),
  ]
)
