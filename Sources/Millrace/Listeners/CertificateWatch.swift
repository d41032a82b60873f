// CertificateWatch: reads files of TLS, and the keys of tokens, again when they have changed, without being told to.
//
// Files are looked at every `tls.watch.interval.ms`. One that has changed is read at the next look at which it is still the
// same, so that what is half written, or a certificate whose key comes a moment later, is waited for. When what was read makes no
// sense, the one that was read before stays in use, one line says so, and nothing is read before the files change again.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceSecurity
import Synchronization

/// When the files behind one certificate are to be read again: files as they are go in, a decision comes out.
struct CertificateChanges: Equatable, Sendable {
  /// As of the last time that they were read, or that was tried. Nil for a file that was not there.
  private var tried: [FileIdentity?]
  /// As of the last look, when that was something else.
  private var seen: [FileIdentity?]?

  /// Files as they were before they were read.
  init(_ files: [FileIdentity?]) { tried = files }

  /// Whether to read them now.
  mutating func looked(_ files: [FileIdentity?]) -> Bool {
    guard files != tried else {
      seen = nil
      return false
    }
    guard files == seen else {
      seen = files
      return false
    }
    read(files)
    return true
  }

  /// They are read for another reason.
  mutating func read(_ files: [FileIdentity?]) {
    tried = files
    seen = nil
  }
}

/// Files that are read together, and what is known of them. Any thread may use it.
package final class FileChanges: Sendable {
  private let paths: [String]
  private let changes: Mutex<CertificateChanges>

  /// To be made before the files are read: what changes meanwhile is then seen as a change.
  init(_ paths: [String]) {
    self.paths = paths
    changes = Mutex(CertificateChanges(FileChanges.look(paths)))
  }

  /// Looks at the files. Blocks.
  /// - Returns: whether to read them now.
  func look() -> Bool {
    let files = FileChanges.look(paths)
    return changes.withLock { $0.looked(files) }
  }

  /// They are read for another reason. Blocks.
  func read() {
    let files = FileChanges.look(paths)
    changes.withLock { $0.read(files) }
  }

  private static func look(_ paths: [String]) -> [FileIdentity?] {
    paths.map { path in
      do throws(IOError) {
        return try FileIdentity(path)
      } catch {
        return nil
      }
    }
  }
}

/// Something that is made of files, and again when they have changed. Any thread may use it.
package protocol WatchedFiles: Sendable {
  /// What is known of the files.
  var files: FileChanges { get }
  /// Reads the files. What cannot be read leaves what was there, and the log says so. Blocks.
  func read()
}

extension WatchedFiles {
  /// Looks at the files, and reads them again when they have changed. Blocks.
  func look() { if files.look() { read() } }

  /// Reads the files again. Blocks.
  func reload() {
    files.read()
    read()
  }
}

/// A listener's TLS.
package final class WatchedTLS: WatchedFiles {
  package let context: TLSContext
  package let files: FileChanges
  private let logger: Logger

  /// Reads the files. Blocks.
  init(_ configuration: TLSConfiguration, logger: Logger) throws(TLSError) {
    files = FileChanges(
      [
        configuration.certificateFile, configuration.keyFile, configuration.clientAuthorityFile,
        configuration.revocationFile,
      ].compactMap(\.self))
    context = try TLSContext(configuration)
    self.logger = logger
  }

  package func read() {
    do throws(TLSError) {
      try context.reload()
      logger.log(
        .info, "security", "certificate read again",
        [
          "file": context.configuration.certificateFile, "subject": context.certificate.subject,
          "until": Logger.iso8601(context.certificate.notAfter),
        ])
    } catch {
      logger.log(
        .error, "security", "certificate not read again; the one that was read before stays in use",
        ["reason": error.description])
      return
    }
    warn()
  }

  /// Says what is odd about the files in use.
  func warn() {
    for warning in context.warnings(at: .now) { logger.log(.warning, "security", warning.description) }
  }
}

/// The keys of whoever signs tokens.
package final class WatchedTokenKeys: WatchedFiles {
  package let files: FileChanges
  private let file: TokenKeyFile
  private let first: JSONWebKeys
  private let use = Mutex<(@Sendable (JSONWebKeys) -> Void)?>(nil)
  private let logger: Logger

  /// Reads the file. Blocks.
  init(_ file: TokenKeyFile, logger: Logger) throws(SecuritySettingError) {
    files = FileChanges([file.path])
    self.file = file
    self.logger = logger
    first = try file.read()
    tell(first)
  }

  /// Hands the keys to a broker, and those that are read later. On the reactor, or before it runs.
  func begin(_ parts: BrokerParts) {
    let (reactor, broker) = (parts.reactor, parts.broker)
    broker.take().authentication.use(first)
    use.withLock { $0 = { keys in reactor.submit { broker.take().authentication.use(keys) } } }
  }

  package func read() {
    do throws(SecuritySettingError) {
      let keys = try file.read()
      tell(keys)
      use.withLock { $0 }?(keys)
    } catch {
      logger.log(
        .error, "security", "keys of tokens not read again; those that were read before stay in use",
        ["reason": "\(error)"])
    }
  }

  private func tell(_ keys: JSONWebKeys) {
    logger.log(
      .info, "security", "keys of tokens read",
      ["file": file.path, "keys": "\(keys.count)", "names": keys.names.joined(separator: " ")])
    for one in keys.skipped {
      logger.log(.warning, "security", "a key is not used", ["file": file.path, "reason": one])
    }
  }
}

/// Looks at the files of all listeners from time to time. Belongs to the reactor.
package final class CertificateWatch {
  private var watched: [any WatchedFiles] = []
  private let reactor: any Reactor
  private let executor: any BlockingExecutor
  private var timer: Timer?
  /// Counts changes of the interval, so that a look that was begun before one does not go on by the old one.
  private var generation = 0

  /// Pause between two looks; zero for none at all.
  private(set) var interval = Duration.zero

  init(reactor: any Reactor, executor: any BlockingExecutor) {
    self.reactor = reactor
    self.executor = executor
  }

  /// Whether there is nothing to look at.
  package var isEmpty: Bool { watched.isEmpty }

  /// Looks at these files, too, from the next time on.
  func add(_ more: [any WatchedFiles]) {
    let isFirst = watched.isEmpty && !more.isEmpty
    watched += more
    if isFirst { begin() }
  }

  /// Looks so often from now on.
  package func look(every interval: Duration) {
    guard interval != self.interval else { return }
    self.interval = interval
    begin()
  }

  private func begin() {
    generation += 1
    timer?.cancel()
    if interval > .zero, !watched.isEmpty { wait(generation) }
  }

  private func wait(_ number: Int) {
    timer = reactor.schedule(after: interval) { [weak self] in self?.look(number) }
  }

  private func look(_ number: Int) {
    let box = ReactorBound(self, on: reactor)
    executor.submit { [watched, reactor] in
      for one in watched { one.look() }
      reactor.submit {
        let watch = box.take()
        if watch.generation == number { watch.wait(number) }
      }
    }
  }

  /// Reads all of them again now.
  package func reload() {
    executor.submit { [watched] in for one in watched { one.reload() } }
  }
}
