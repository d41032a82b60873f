// Demo: a server that feeds text files into a topic, counts their words beside the log, and shows what happens.

import Glibc
import MillraceBase
import MillraceBroker
import MillraceConnectors
import MillraceDataflow
import MillraceIO
import MillraceStreams

/// What the demo is started with.
public struct DemoConfiguration {
  /// The server.
  public var server: ServerConfiguration
  /// Files and folders to read; nil takes the machine's documents.
  public var inputs: [String]?
  /// Reads the files over and over, at a steady rate.
  public var repeats = false
  /// Lines a second when repeating.
  public var linesPerSecond = 2000
  /// Threads that count.
  public var workers = 1

  /// A demo on a server.
  public init(server: ServerConfiguration) {
    self.server = server
  }

  /// What is read when nothing is named.
  public static let standardInputs = ["/usr/share/common-licenses", "/usr/share/doc"]
}

/// The word count with its feeder, on a server of its own. Belongs to the main thread, which runs the reactor.
public final class Demo {
  static let lines = "lines"
  static let counts = "counts"

  private let server: ServerProcess
  private let configuration: DemoConfiguration
  private let files: [String]
  private var runners: [JobRunner] = []
  private var ended = 0
  private var hasFailed = false
  private var stopping: (() -> Void)?
  private let view: DemoView
  private let words: WordWatch

  /// Opens the server and finds the files.
  /// - Throws: `ServerStartError`, or `IOError` for an input that is not there.
  public init(_ configuration: DemoConfiguration) throws {
    self.configuration = configuration
    let fileSystem = LinuxFileSystem()
    var inputs = configuration.inputs ?? []
    if configuration.inputs == nil {
      for path in DemoConfiguration.standardInputs where try fileSystem.exists(path) { inputs.append(path) }
    }
    do throws(IOError) {
      files = try FileSource.files(under: inputs, in: fileSystem)
    } catch {
      throw ServerStartError(description: "\(error)", exitCode: .failed)
    }
    server = try ServerProcess(configuration.server)
    words = WordWatch(broker: server.broker, topic: Demo.counts)
    view = DemoView(isTerminal: isatty(1) == 1)
  }

  /// Serves until a signal; returns what to exit with.
  public func run() -> ExitCode {
    server.onStop = { [unowned self] in self.stop($0) }
    server.reactor.submit { [box = ReactorBound(self, on: server.reactor)] in box.take().begin() }
    let status = server.run()
    return hasFailed ? .failed : status
  }

  private func begin() {
    let broker = server.broker
    let missing = [Demo.lines, Demo.counts].filter { broker.topic($0) == nil }
    let pending = Countdown(missing.count) { [self] in
      startJobs()
      server.announce()
      view.say(joinText())
      tick()
    }
    for topic in missing {
      // Of a word only its newest count matters.
      let configs = topic == Demo.counts ? ["cleanup.policy": "compact"] : [:]
      broker.createTopic(topic, configs: configs) { [self] result in
        if case .failure(let error) = result { return fail("creating topic \(topic): \(error)") }
        pending.done()
      }
    }
  }

  private func startJobs() {
    let broker = server.broker
    let files = files
    let repeats = configuration.repeats
    let rate = configuration.linesPerSecond
    // What somebody names is read as it is; of the machine's documents only what looks like text.
    let textOnly = configuration.inputs == nil
    let feeder = DataStream<RecordInput>.source("files") {
      let source = FileSource(files: files, in: LinuxFileSystem(), repeats: repeats, textOnly: textOnly)
      return repeats ? PacedSource(source, recordsPerSecond: rate) : source
    }.to(topic: Demo.lines).job(named: "feeder")
    for job in [feeder, WordCount.job(from: Demo.lines, to: Demo.counts)] {
      var options = JobOptions()
      if job.name != feeder.name { options.workers = configuration.workers }
      let runner = JobRunner(job, host: BrokerJobHost(broker), options: options) {
        [reactor = server.reactor, box = ReactorBound(self, on: server.reactor)] state in
        reactor.submit { box.take().changed(job.name, state) }
      }
      runners.append(runner)
      runner.start()
    }
  }

  private func changed(_ job: String, _ state: JobRunner.State) {
    switch state {
    case .recovering, .running: return
    case .finished:
      ended += 1
      if job == "feeder" { view.say("the input has been read to its end; serving goes on until Ctrl-C") }
    case .stopped: ended += 1
    case .failed(let error):
      ended += 1
      if stopping == nil || error.code != .closed { fail("job \(job): \(error)") }
    }
    if ended == runners.count { stopping?() }
  }

  private func fail(_ reason: String) {
    server.logger.log(.error, "demo", reason)
    hasFailed = true
    if stopping == nil { kill(getpid(), SIGTERM) }
  }

  private func stop(_ done: @escaping () -> Void) {
    view.end()
    guard ended < runners.count else { return done() }
    stopping = done
    for runner in runners { runner.stop() }
  }

  private func tick() {
    guard stopping == nil else { return }
    words.update { [self] in
      guard stopping == nil else { return }
      view.show(
        DemoView.Figures(
          feeder: runners[0].figures, counter: runners[1].figures, isFeeding: runners[0].state == .running,
          commit: server.broker.commitLatency, top: words.top(10)), now: server.reactor.now)
    }
    server.reactor.schedule(after: .seconds(1)) { [weak self] in self?.tick() }
  }

  private func joinText() -> String {
    let address = server.kafkaAddress
    return """
      feeding \(files.count) files into topic "\(Demo.lines)", counting words into topic "\(Demo.counts)"; join in with
        kcat -b \(address) -t \(Demo.counts) -C -f '%k %s\\n'
        echo "some words of yours" | kcat -b \(address) -t \(Demo.lines) -P
        python3 -c "from kafka import KafkaConsumer
        for r in KafkaConsumer('\(Demo.counts)', bootstrap_servers='\(address)'): print(r.key.decode(), r.value.decode())"
      """
  }
}

/// Calls back after a number of steps; at once when there are none.
private final class Countdown {
  private var left: Int
  private let completion: () -> Void

  init(_ count: Int, _ completion: @escaping () -> Void) {
    left = count
    self.completion = completion
    if count == 0 { completion() }
  }

  func done() {
    left -= 1
    if left == 0 { completion() }
  }
}
