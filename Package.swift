// swift-tools-version: 6.2
import PackageDescription

// The house: every target with the floor it stands on and what it may import.
// Tests/LayeringTests holds these arrows against the imports in the sources.

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
]

func library(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

func program(_ name: String, path: String, _ dependencies: [Target.Dependency]) -> Target {
  tool(name, path: path, dependencies)
}

// A program that stands on no floor. A release runs on a machine without Swift's libraries; that is said where it is linked alone,
// so that all that is built for a release shares its modules: programs, examples, and the packages of the tutorial. What uses
// Foundation would have to say it where it is compiled, too.
func tool(
  _ name: String, path: String, _ dependencies: [Target.Dependency], usesFoundation: Bool = false
) -> Target {
  .executableTarget(
    name: name, dependencies: dependencies, path: path, swiftSettings: settings,
    linkerSettings: usesFoundation ? [] : [.unsafeFlags(["-static-executable"], .when(configuration: .release))])
}

let package = Package(
  name: "millrace",
  products: [
    .library(name: "Millrace", targets: ["Millrace"]),
    .executable(name: "millrace", targets: ["millrace"]),
  ],
  targets: [
    // Floor 1: C
    .target(
      name: "CMillraceSystem", cSettings: [.treatAllWarnings(as: .error)], linkerSettings: [.linkedLibrary("uring")]),
    .systemLibrary(name: "CZstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CLZ4", providers: [.apt(["liblz4-dev"])]),
    .systemLibrary(name: "CSnappy", providers: [.apt(["libsnappy-dev"])]),
    .systemLibrary(name: "CZlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CPCRE2", providers: [.apt(["libpcre2-dev"])]),
    .systemLibrary(name: "COpenSSL", providers: [.apt(["libssl-dev"])]),
    // Floor 2
    library("MillraceBase", ["CMillraceSystem"]),
    library("MillracePattern", ["CPCRE2"]),
    // Floor 3
    library("MillraceModel", ["MillraceBase"]),
    library("MillraceCompression", ["MillraceBase", "CZstd", "CLZ4", "CSnappy", "CZlib"]),
    library("MillraceIO", ["MillraceBase", "CMillraceSystem", "COpenSSL"]),
    library("MillraceSecurity", ["MillraceBase", "MillracePattern", "COpenSSL"]),
    library("MillraceQueueing", ["MillraceBase"]),
    // Floor 4
    library("MillraceKafkaProtocol", ["MillraceBase", "MillraceModel"]),
    library("MillraceAMQPProtocol", ["MillraceBase"]),
    library("MillraceHTTPProtocol", ["MillraceBase"]),
    library("MillraceLog", ["MillraceBase", "MillraceModel", "MillraceCompression", "MillraceIO"]),
    library("MillraceDataflow", ["MillraceBase", "MillraceModel"]),
    library("MillraceDelivery", ["MillraceBase", "MillraceModel"]),
    library("MillraceRouting", ["MillraceBase"]),
    // Floor 5
    library(
      "MillraceMetadata",
      ["MillraceBase", "MillraceModel", "MillraceLog", "MillraceDelivery", "MillraceRouting", "MillraceSecurity"]),
    library("MillraceStreams", ["MillraceBase", "MillraceModel", "MillraceDataflow"]),
    library("MillraceNexmark", ["MillraceBase", "MillraceModel", "MillraceDataflow"]),
    // Floor 6
    library(
      "MillraceNexmarkQueries",
      ["MillraceBase", "MillraceModel", "MillraceDataflow", "MillraceStreams", "MillraceNexmark"]),
    library(
      "MillraceBroker",
      [
        "MillraceBase", "MillraceModel", "MillraceCompression", "MillracePattern", "MillraceIO", "MillraceLog",
        "MillraceDelivery", "MillraceRouting", "MillraceMetadata", "MillraceQueueing", "MillraceSecurity",
      ]),
    // Floor 7
    library(
      "MillraceKafkaServer",
      [
        "MillraceBase", "MillraceModel", "MillraceIO", "MillraceDelivery", "MillraceRouting", "MillraceKafkaProtocol",
        "MillraceBroker", "MillraceSecurity",
      ]),
    library(
      "MillraceAMQPServer",
      [
        "MillraceBase", "MillraceModel", "MillraceIO", "MillraceDelivery", "MillraceRouting", "MillraceAMQPProtocol",
        "MillraceBroker", "MillraceSecurity",
      ]),
    library(
      "MillraceHTTPServer",
      [
        "MillraceBase", "MillraceModel", "MillraceIO", "MillraceDelivery", "MillraceRouting", "MillraceQueueing",
        "MillraceHTTPProtocol", "MillraceAMQPProtocol", "MillraceBroker", "MillraceSecurity",
      ]),
    library(
      "MillraceConnectors",
      [
        "MillraceBase", "MillraceModel", "MillraceCompression", "MillraceIO", "MillraceDataflow", "MillraceStreams",
        "MillraceBroker",
      ]),
    // Floor 8
    library("MillraceQueue", ["MillraceBase"]),
    library(
      "Millrace",
      [
        "MillraceBase", "MillraceModel", "MillraceCompression", "MillraceIO", "MillraceLog", "MillraceDataflow",
        "MillraceStreams", "MillraceDelivery", "MillraceRouting", "MillraceQueueing", "MillraceMetadata",
        "MillraceBroker", "MillraceKafkaProtocol", "MillraceKafkaServer", "MillraceAMQPProtocol", "MillraceAMQPServer",
        "MillraceConnectors", "MillraceQueue", "MillraceSecurity", "MillraceHTTPProtocol", "MillraceHTTPServer",
      ]),
    // Floor 9
    library(
      "MillraceServer",
      [
        "MillraceBase", "MillraceModel", "MillraceCompression", "MillraceIO", "MillraceLog",
        "MillraceKafkaProtocol", "MillraceKafkaServer", "MillraceMetadata", "MillraceBroker", "MillraceDataflow",
        "MillraceStreams", "MillraceConnectors", "MillraceDelivery", "MillraceRouting", "MillraceQueueing",
        "MillraceAMQPProtocol", "Millrace", "MillraceNexmark", "MillraceNexmarkQueries", "MillraceSecurity",
      ]),
    program("millrace", path: "Sources/millrace", ["MillraceServer"]),
    // Beside the floors: imported by tests, simulator and fuzzers only
    library("MillraceSimulation", ["MillraceBase", "MillraceModel", "MillraceIO"]),
    .target(
      name: "BrokerSimulation",
      dependencies: [
        "MillraceBase", "MillraceModel", "MillraceCompression", "MillraceIO", "MillraceLog", "MillraceBroker",
        "MillraceKafkaProtocol", "MillraceKafkaServer", "MillraceDelivery", "MillraceRouting", "MillraceAMQPProtocol",
        "MillraceAMQPServer", "MillraceDataflow", "MillraceStreams", "MillraceConnectors", "MillraceSimulation",
        "TransactionHistory",
      ],
      path: "Simulator/BrokerSimulation", swiftSettings: settings),
    .target(name: "TransactionHistory", path: "Simulator/TransactionHistory", swiftSettings: settings),
    tool(
      "Simulator", path: "Simulator/Simulator",
      ["BrokerSimulation", "MillraceSimulation", "MillraceIO", "MillraceBase"]),
    // Tests
    .target(name: "TestTokens", path: "Tests/Support/TestTokens", swiftSettings: settings),
    tests("LayeringTests", []),
    tests("MillraceBaseTests", ["MillraceBase"]),
    tests("MillraceModelTests", ["MillraceModel", "MillraceBase"]),
    tests("MillraceIOTests", ["MillraceIO", "MillraceBase", "MillraceSimulation", "CMillraceSystem", "COpenSSL"]),
    tests("MillraceKafkaProtocolTests", ["MillraceKafkaProtocol", "MillraceModel", "MillraceBase"]),
    tests("MillraceAMQPProtocolTests", ["MillraceAMQPProtocol", "MillraceBase"]),
    tests("MillraceHTTPProtocolTests", ["MillraceHTTPProtocol", "MillraceBase"]),
    tests(
      "MillraceHTTPServerTests",
      [
        "MillraceHTTPServer", "MillraceHTTPProtocol", "MillraceAMQPServer", "MillraceAMQPProtocol", "MillraceBroker",
        "MillraceSecurity", "MillraceRouting", "MillraceDelivery", "MillraceLog", "MillraceSimulation", "MillraceIO",
        "MillraceModel", "MillraceBase", "TestTokens",
      ]),
    tests("MillraceQueueTests", ["MillraceQueue", "MillraceBase"]),
    tests("MillraceQueueingTests", ["MillraceQueueing", "MillraceBase"]),
    tests("MillraceCompressionTests", ["MillraceCompression", "MillraceBase"]),
    tests("MillracePatternTests", ["MillracePattern"]),
    tests("MillraceSecurityTests", ["MillraceSecurity", "MillraceBase", "COpenSSL"]),
    tests("MillraceSimulationTests", ["MillraceSimulation", "MillraceIO", "MillraceBase"]),
    tests("TransactionHistoryTests", ["TransactionHistory"]),
    tests("MillraceRoutingTests", ["MillraceRouting", "MillraceBase"]),
    tests("MillraceDataflowTests", ["MillraceDataflow", "MillraceModel", "MillraceBase"]),
    tests("MillraceDeliveryTests", ["MillraceDelivery", "MillraceModel", "MillraceBase"]),
    tests("MillraceStreamsTests", ["MillraceStreams", "MillraceDataflow", "MillraceModel", "MillraceBase"]),
    tests("MillraceNexmarkTests", ["MillraceNexmark", "MillraceDataflow", "MillraceModel", "MillraceBase"]),
    tests(
      "MillraceNexmarkQueriesTests",
      [
        "MillraceNexmarkQueries", "MillraceNexmark", "MillraceStreams", "MillraceDataflow", "MillraceModel",
        "MillraceBase",
      ]),
    tests(
      "MillraceConnectorsTests",
      [
        "MillraceConnectors", "MillraceStreams", "MillraceDataflow", "MillraceBroker", "MillraceAMQPServer",
        "MillraceDelivery", "MillraceRouting", "MillraceLog", "MillraceCompression", "MillraceSimulation", "MillraceIO",
        "MillraceModel", "MillraceBase",
      ]),
    tests("MillraceTests", ["Millrace", "MillraceIO", "MillraceSecurity"]),
    tests(
      "MillraceServerTests",
      [
        "MillraceServer", "Millrace", "MillraceKafkaServer", "MillraceKafkaProtocol", "MillraceBroker",
        "MillraceMetadata", "MillraceRouting", "MillraceCompression", "MillraceLog", "MillraceIO", "MillraceModel",
        "MillraceBase", "MillraceDelivery", "MillraceAMQPServer", "MillraceAMQPProtocol", "MillraceQueueing",
      ]),
    tests(
      "MillraceLogTests",
      [
        "MillraceLog", "MillraceSimulation", "MillraceCompression", "MillraceIO", "MillraceModel", "MillraceBase",
      ]),
    tests(
      "MillraceMetadataTests",
      [
        "MillraceMetadata", "MillraceLog", "MillraceDelivery", "MillraceRouting", "MillraceSecurity",
        "MillraceSimulation", "MillraceIO", "MillraceModel", "MillraceBase",
      ]),
    tests(
      "MillraceBrokerTests",
      [
        "BrokerSimulation", "TransactionHistory", "MillraceBroker", "MillraceKafkaProtocol", "MillraceMetadata",
        "MillraceQueueing", "MillraceDelivery", "MillraceRouting", "MillraceSecurity", "MillraceLog",
        "MillraceSimulation", "MillraceIO", "MillraceModel", "MillraceBase",
      ]),
    tests(
      "MillraceKafkaServerTests",
      [
        "MillraceKafkaServer", "MillraceKafkaProtocol", "MillraceBroker", "MillraceLog", "MillraceSimulation",
        "MillraceIO", "MillraceModel", "MillraceBase", "MillraceDelivery", "MillraceRouting", "MillraceSecurity",
        "MillraceAMQPServer", "MillraceAMQPProtocol", "TestTokens",
      ]),
    tests(
      "MillraceAMQPServerTests",
      [
        "MillraceAMQPServer", "MillraceAMQPProtocol", "MillraceBroker", "MillraceSecurity", "MillraceRouting",
        "MillraceDelivery", "MillraceLog", "MillraceSimulation", "MillraceIO", "MillraceModel", "MillraceBase",
        "TestTokens",
      ]),
    // Jobs as workers, which Tests/crash kills
    tool("CrashWorker", path: "Tests/crash/worker", ["Millrace"]),
    // Benchmarks
    tool(
      "WordCountBenchmark", path: "Benchmarks/WordCountBenchmark",
      ["MillraceBase", "MillraceModel", "MillraceDataflow", "MillraceStreams"], usesFoundation: true),
    tool(
      "CodecBenchmark", path: "Benchmarks/CodecBenchmark",
      ["MillraceBase", "MillraceModel", "MillraceDataflow", "MillraceStreams", "MillraceNexmark"]),
    tool(
      "LogBidsBenchmark", path: "Benchmarks/LogBidsBenchmark", ["Millrace", "MillraceNexmark"], usesFoundation: true),
    tool(
      "StateBenchmark", path: "Benchmarks/StateBenchmark",
      [
        "MillraceBase", "MillraceModel", "MillraceDataflow", "MillraceStreams", "MillraceConnectors", "Millrace",
      ], usesFoundation: true),
    tool("TLSBenchmark", path: "Benchmarks/TLSBenchmark", ["MillraceIO", "MillraceBase", "COpenSSL"]),
    tool(
      "EncryptionBenchmark", path: "Benchmarks/EncryptionBenchmark",
      ["MillraceLog", "MillraceModel", "MillraceIO", "MillraceBase"]),
    tool(
      "NexmarkBenchmark", path: "Benchmarks/NexmarkBenchmark",
      ["MillraceBase", "MillraceDataflow", "MillraceNexmark", "MillraceNexmarkQueries"]),
  ]
)

// The fuzzers: built by Fuzz/run.sh alone, because their `main` is libFuzzer's and all they use is instrumented. Several
// programs, because libFuzzer looks through the counters of all the code of one after each input: what needs little code
// stands apart from what needs a broker.
func fuzzers(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .executableTarget(
    name: name, dependencies: ["FuzzHarness", "MillraceBase"] + dependencies, path: "Fuzz/\(name)",
    swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])],
    linkerSettings: [
      .unsafeFlags([
        "-Xlinker", "--wrap=mr_allocate_pages", "-Xlinker", "--wrap=mr_grow_pages", "-Xlinker", "--wrap=mr_free_pages",
      ])
    ])
}

if Context.environment["MILLRACE_FUZZ"] != nil {
  package.targets += [
    .target(name: "CFuzzSupport", path: "Fuzz/CFuzzSupport"),
    .target(
      name: "FuzzHarness", dependencies: ["CFuzzSupport", "MillraceBase", "MillraceModel"], path: "Fuzz/Harness",
      swiftSettings: settings),
    .target(
      name: "FuzzStorage", dependencies: ["MillraceBase", "MillraceIO", "MillraceLog", "MillraceSimulation"],
      path: "Fuzz/Storage", swiftSettings: settings),
    fuzzers("ProtocolFuzzers", ["MillraceKafkaProtocol", "MillraceAMQPProtocol", "MillraceHTTPProtocol"]),
    fuzzers(
      "DataFuzzers",
      [
        "MillraceModel", "MillraceCompression", "MillraceRouting", "MillraceDataflow", "MillraceStreams",
        "MillraceNexmark", "MillraceNexmarkQueries", "MillraceSecurity",
      ]),
    fuzzers(
      "LogFuzzers",
      [
        "FuzzStorage", "MillraceModel", "MillraceIO", "MillraceLog", "MillraceDelivery", "MillraceRouting",
        "MillraceMetadata", "MillraceSimulation", "COpenSSL",
      ]),
    fuzzers(
      "BrokerFuzzers",
      [
        "FuzzStorage", "MillraceModel", "MillraceIO", "MillraceLog", "MillraceDelivery", "MillraceRouting",
        "MillraceDataflow", "MillraceKafkaProtocol", "MillraceAMQPProtocol", "MillraceBroker", "MillraceKafkaServer",
        "MillraceAMQPServer", "MillraceConnectors", "Millrace", "MillraceServer", "MillraceSimulation",
        "MillraceStreams",
      ]),
  ]
}
