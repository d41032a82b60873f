// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "page-views",
  dependencies: [.package(name: "millrace", path: "/home/ann/tutorial/millrace")],
  targets: [
    // The job, apart from the program, so that tests can run it.
    .target(
      name: "PageViewsJob",
      dependencies: [.product(name: "Millrace", package: "millrace")]),
    .executableTarget(name: "page-views", dependencies: ["PageViewsJob"]),
    // The job in a process of your own, with everything that it needs.
    .executableTarget(
      name: "embedded",
      dependencies: ["PageViewsJob", .product(name: "Millrace", package: "millrace")]),
    .testTarget(name: "PageViewsJobTests", dependencies: ["PageViewsJob"]),
  ]
)
