// TLSContext: a server's certificate, key, trust and rules, which may be replaced while connections are open.

import COpenSSL
import Glibc
import MillraceBase
import Synchronization

/// How a listener speaks TLS: what is read of a ``TLSConfiguration``.
///
/// Sessions are never resumed: a resumed one would skip the check of the client's certificate against a list of revocations
/// that has come since, and tickets would put all past sessions behind one key. Brokers' connections live long.
///
/// Any thread may use it.
public final class TLSContext: Sendable {
  /// Handshakes since the start.
  public struct Figures: Sendable, Equatable {
    /// Handshakes that ended well.
    public var handshakes = 0
    /// Handshakes that failed, or were broken off after a first byte.
    public var failures = 0
  }

  /// What it is made of.
  public let configuration: TLSConfiguration
  private let files: any FileSystem
  private let loaded: Mutex<LoadedTLS>
  private let counted = Mutex(Figures())

  /// Reads the files of `configuration`. Blocks.
  /// - Throws: ``TLSError`` that names the file and the reason. A certificate that is expired, or not valid yet, is none: see
  ///   ``warnings``.
  public init(_ configuration: TLSConfiguration, files: any FileSystem = LinuxFileSystem()) throws(TLSError) {
    self.configuration = configuration
    self.files = files
    loaded = Mutex(try LoadedTLS(configuration, files: files))
  }

  /// Reads the files again. New connections use what was read; those that are open stay as they are. Blocks.
  /// - Throws: as the initializer does; then everything stays as it was.
  public func reload() throws(TLSError) {
    let next = try LoadedTLS(configuration, files: files)
    loaded.withLock { $0 = next }
  }

  /// The server's certificate.
  public var certificate: Certificate { loaded.withLock { $0.certificate } }

  /// What is odd about the files in use, though it works: certificates and lists out of their time, a key that others may
  /// read. Certificates are looked at when this is called.
  public func warnings(at now: Timestamp) -> [TLSError] {
    loaded.withLock { $0 }.warnings(at: now)
  }

  /// Handshakes so far.
  public var figures: Figures { counted.withLock { $0 } }

  func handshakeEnded(well: Bool) {
    counted.withLock { if well { $0.handshakes += 1 } else { $0.failures += 1 } }
  }

  /// A server's end of a new connection.
  func makeSession() -> TLSSession { TLSSession(.server, loaded.withLock { $0.context }) }
}
