// JobTemplate: the files of a new package with a stream job.

/// A package that counts words.
struct JobTemplate {
  /// Where the package gets Millrace from.
  enum Millrace {
    case path(String)
    case url(String)
  }

  /// Of job, package and program.
  let name: String
  let millrace: Millrace

  /// Nil when a package cannot have the name.
  init?(name: String, millrace: Millrace) {
    let isAllowed = name.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"): true
      default: false
      }
    }
    guard isAllowed, name.utf8.count <= 100, let first = name.utf8.first, first >= UInt8(ascii: "a") else { return nil }
    self.name = name
    self.millrace = millrace
  }

  /// `word-counts` as `WordCounts`.
  var module: String {
    name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
  }

  /// Paths below the package's folder, and what stands there.
  var files: [(path: String, text: String)] {
    [
      ("Package.swift", manifest), ("README.md", readme), (".gitignore", ".build/\n"),
      ("Sources/\(module)Job/Job.swift", job), ("Sources/\(name)/Program.swift", program),
      ("Tests/\(module)JobTests/JobTests.swift", tests),
    ]
  }

  private static func literal(_ text: String) -> String {
    "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
  }

  /// The dependency, and the name by which targets know it.
  private var dependency: (declaration: String, identity: String) {
    switch millrace {
    case .path(let path): return (".package(name: \"millrace\", path: \(JobTemplate.literal(path)))", "millrace")
    case .url(let url):
      // A package that comes from a repository is known by the last part of its address.
      let last = url.split(separator: "/").last.map(String.init) ?? url
      let identity = last.hasSuffix(".git") ? String(last.dropLast(4)) : last
      return (".package(url: \(JobTemplate.literal(url)), branch: \"main\")", identity.lowercased())
    }
  }

  private var manifest: String {
    let (declaration, identity) = dependency
    return """
      // swift-tools-version: 6.2
      import PackageDescription

      let package = Package(
        name: "\(name)",
        dependencies: [\(declaration)],
        targets: [
          // The job, apart from the program, so that tests can run it.
          .target(
            name: "\(module)Job",
            dependencies: [.product(name: "Millrace", package: \(JobTemplate.literal(identity)))]),
          .executableTarget(name: "\(name)", dependencies: ["\(module)Job"]),
          .testTarget(name: "\(module)JobTests", dependencies: ["\(module)Job"]),
        ]
      )

      """
  }

  private var job: String {
    """
    // The job: what comes from the topic "lines", and what becomes of it.

    import Millrace

    /// Counts words: lines in, a count for each word out.
    ///
    /// State and positions are kept under the job's name, and those of an operator under the operator's: names stay when the
    /// code changes.
    public let job = DataStream.topic("lines")
      .flatMap(Words())
      .keyBy { $0 }
      .count(name: "words")
      .to(topic: "counts")
      .job(named: "\(name)")

    """
  }

  private var program: String {
    """
    // The program: joins the server whose data directory is named, and runs the job until it is stopped.

    import Glibc
    import Millrace
    import \(module)Job

    @main
    enum Program {
      static func main() async {
        guard CommandLine.arguments.count == 2 else {
          say("usage: \(name) DIRECTORY   the directory of `millrace serve --data DIRECTORY`")
          exit(64)
        }
        let worker = JobWorker(job, directory: CommandLine.arguments[1])
        do throws(JobError) {
          try await worker.run()
        } catch {
          say("\(name): \\(error)")
          exit(1)
        }
      }

      /// Writes a line to standard error.
      private static func say(_ text: String) {
        let line = text + "\\n"
        _ = write(STDERR_FILENO, line, line.utf8.count)
      }
    }

    """
  }

  private var tests: String {
    """
    import Millrace
    import Testing
    import \(module)Job

    @Test("every word is counted once, also when the program crashes and a commit is lost")
    func countsWords() throws {
      let driver = TestDriver(job)
      try driver.send("lines", value: "to be or not to be", at: 1)
      try driver.run()
      driver.crash()
      try driver.send("lines", value: "not", at: 2)
      driver.next(.lost)
      #expect(throws: JobError.self) { try driver.run() }
      // The run whose commit is lost has ended; the next one makes the step again.
      try driver.run()
      var counts: [String: String] = [:]
      for count in try driver.output("counts") { counts[count.key?.text ?? ""] = count.value?.text }
      #expect(counts == ["to": "2", "be": "2", "or": "1", "not": "2"])
    }

    """
  }

  private var readme: String {
    """
    # \(name)

    A stream job for Millrace: it reads the topic `lines`, counts words, and writes the topic `counts`. The job is in
    `Sources/\(module)Job/Job.swift`.

    ```sh
    swift test                                  # runs the job without a server
    swift build -c release
    millrace serve --data data                  # in another terminal
    .build/release/\(name) data                 # joins that server

    echo 'to be or not to be' | millrace produce lines
    millrace consume counts --from earliest --json
    millrace job show \(name) --data data
    ```

    The program may be killed and started again at any time: what each step leads to is committed as a whole by the server, and the
    job goes on where its last commit stands. `millrace job stop \(name) --data data` has it end, and `millrace job resume` lets it
    be started again.

    """
  }
}
