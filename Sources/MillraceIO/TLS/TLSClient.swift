// TLSClient: a client's side of TLS over a blocking socket: the server must prove that it is the host that was meant.

import COpenSSL
import MillraceBase

/// Whom a client trusts, and what it shows.
public struct TLSClientConfiguration: Sendable, Equatable {
  /// Where the authorities come from.
  public enum Trust: Sendable, Equatable {
    /// The system's store, or the files that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    case system
    /// A PEM file of authorities, each an anchor by itself, and nobody else.
    case authorities(file: String)
  }

  /// Whom it trusts.
  public var trust: Trust
  /// The host's name or address that the server's certificate must have; nil for the address that was connected to.
  public var serverName: String?
  /// PEM: the client's certificate, then those between it and its authority; nil when it shows none.
  public var certificateFile: String?
  /// PEM: the private key of that certificate.
  public var keyFile: String?
  /// Names of application protocols (ALPN) to offer.
  public var applicationProtocols: [String]
  /// The lowest version.
  public var minimumVersion: TLSConfiguration.Version

  /// Whom a client trusts, and what it shows.
  public init(
    trust: Trust = .system, serverName: String? = nil, certificateFile: String? = nil, keyFile: String? = nil,
    applicationProtocols: [String] = [], minimumVersion: TLSConfiguration.Version = .tls12
  ) {
    self.trust = trust
    self.serverName = serverName
    self.certificateFile = certificateFile
    self.keyFile = keyFile
    self.applicationProtocols = applicationProtocols
    self.minimumVersion = minimumVersion
  }
}

/// A TLS connection that blocks its caller. One thread may use it at once.
public final class TLSClient: BlockingStream {
  private let socket: BlockingSocket
  private let session: TLSSession
  private let ciphertext = Chunk(capacity: TLSClient.readBytes)
  /// Plain text that was decrypted while waiting for some.
  private var ready = Bytes()
  private var isEnded = false

  private static let readBytes = 64 * 1024

  /// The peer.
  public var peer: SocketAddress { socket.peer }
  /// What was agreed on.
  public private(set) var security: ConnectionSecurity?

  /// Does the handshake over `socket`, which belongs to this object from now on. Reads the files of `configuration`.
  /// - Parameter timeout: bound of the handshake.
  /// - Throws: ``TLSError``: a file that is of no use, `.peerNotTrusted` when the server does not prove to be the one that was
  ///   meant, `.handshake` for other refusals, `.connection` when the socket fails or the time is over.
  public init(
    over socket: BlockingSocket, _ configuration: TLSClientConfiguration, timeout: Duration,
    files: any FileSystem = LinuxFileSystem()
  ) throws(TLSError) {
    self.socket = socket
    session = TLSSession(.client, try TLSClient.context(configuration, files))
    let host = configuration.serverName ?? socket.peer.host
    guard session.withSSL({ TLSClient.expect(host, of: $0) }) == true else {
      OpenSSL.drainErrors()
      throw TLSError(.badSettings, "\"\(host)\"", "is neither a host's name nor an IP address")
    }
    try shakeHands(timeout)
    security = session.security
  }

  private static func context(_ configuration: TLSClientConfiguration, _ files: any FileSystem) throws(TLSError)
    -> OpenSSLContext
  {
    let reader = PEMFiles(files: files)
    let context = try OpenSSLContext(
      .client, minimum: configuration.minimumVersion, protocols: configuration.applicationProtocols)
    switch configuration.trust {
    case .authorities(let file): try context.trust(try reader.certificates(file, .badAuthority))
    case .system: context.trustSystem()
    }
    if let file = configuration.certificateFile {
      guard let keyFile = configuration.keyFile else {
        throw TLSError(.badSettings, file, "a certificate needs its private key")
      }
      let key = try reader.key(keyFile)
      defer { EVP_PKEY_free(key) }
      try context.use(try reader.certificates(file, .badCertificate), from: file, key: key, from: keyFile)
    } else if let keyFile = configuration.keyFile {
      throw TLSError(.badSettings, keyFile, "a private key needs its certificate")
    }
    SSL_CTX_set_verify(context.pointer, SSL_VERIFY_PEER, nil)
    return context
  }

  private static func expect(_ host: String, of ssl: OpaquePointer) -> Bool {
    let parameters = SSL_get0_param(ssl)
    if SocketAddress(host: host, port: 0).isNumeric { return X509_VERIFY_PARAM_set1_ip_asc(parameters, host) == 1 }
    guard CertificateMaker.isHostName(host) else { return false }
    X509_VERIFY_PARAM_set_hostflags(parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
    guard X509_VERIFY_PARAM_set1_host(parameters, host, 0) == 1 else { return false }
    var name = Array(host.utf8CString)
    return name.withUnsafeMutableBytes {
      SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, Int(TLSEXT_NAMETYPE_host_name), $0.baseAddress) == 1
    }
  }

  private func shakeHands(_ timeout: Duration) throws(TLSError) {
    let end = MonotonicTime.now + timeout
    while true {
      let outcome = session.handshake()
      do throws(IOError) {
        // An alert too, if the peer still hears it.
        try flush()
        if outcome == .needsInput {
          guard try socket.waitReadable(end - MonotonicTime.now) else { throw error("the handshake timed out") }
          guard try feed() else { throw error("the peer closed the connection during the handshake") }
        }
      } catch {
        if case .failed = outcome {} else { throw TLSError(.connection, peer.description, error.reason) }
      }
      switch outcome {
      case .done: return
      case .needsInput: break
      case .ended: throw TLSError(.handshake, peer.description, "the peer ended the handshake")
      case .failed(let reason): throw TLSError(isPeerTrusted ? .handshake : .peerNotTrusted, peer.description, reason)
      }
    }
  }

  private var isPeerTrusted: Bool { session.withSSL { SSL_get_verify_result($0) } == Int(X509_V_OK) }

  // MARK: BlockingStream

  /// Sends all pieces in order.
  public func send(_ pieces: [Bytes]) throws(IOError) {
    for piece in pieces where piece.count > 0 {
      var at = 0
      // By parts, so that a large piece is never there twice.
      while at < piece.count {
        let part = piece[at..<min(piece.count, at + (1 << 20))]
        if case .failed(let reason) = part.withBuffer({ session.write($0) }) { throw error(reason) }
        at += part.count
        if at < piece.count { try flush() }
      }
    }
    try flush()
  }

  /// Waits until there is something to receive, or the peer has closed.
  public func waitReadable(_ timeout: Duration) throws(IOError) -> Bool {
    let end = MonotonicTime.now + timeout
    while ready.isEmpty && !isEnded {
      let room = Chunk(capacity: TLSRules.recordBytes)
      let got = try decrypt(into: UnsafeMutableRawBufferPointer(start: room.base, count: TLSRules.recordBytes))
      if let got {
        ready = room.bytes(0..<got)
        continue
      }
      guard try socket.waitReadable(end - MonotonicTime.now) else { return false }
      try feedOrFail()
    }
    return true
  }

  /// Receives what is there; blocks when nothing is.
  public func receive(into buffer: UnsafeMutableRawBufferPointer) throws(IOError) -> Int {
    if ready.count > 0 {
      let count = min(ready.count, buffer.count)
      ready.withBuffer { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
      ready = ready[count..<ready.count]
      return count
    }
    while !isEnded {
      if let got = try decrypt(into: buffer) { return got }
      try feedOrFail()
    }
    return 0
  }

  /// Says that nothing more is sent. What the peer sends may still be received.
  public func finishSending() throws(IOError) {
    session.sayEnd()
    try flush()
  }

  /// What was decrypted: 0 at the end, nil when more ciphertext is needed.
  private func decrypt(into room: UnsafeMutableRawBufferPointer) throws(IOError) -> Int? {
    let (count, outcome) = session.read(into: room)
    if case .failed(let reason) = outcome, count == 0 {
      // The alert, if the peer still hears it.
      do throws(IOError) { try flush() } catch {}
      throw error(reason)
    }
    if outcome == .ended { isEnded = true }
    if count == 0 && outcome == .needsInput { return nil }
    return count
  }

  private func feedOrFail() throws(IOError) {
    try flush()
    guard try feed() else { throw error("the peer ended the connection without closing TLS") }
  }

  /// Receives some ciphertext; false when the peer has closed the socket.
  private func feed() throws(IOError) -> Bool {
    // OpenSSL has used up what was there: it asked for more.
    let got = try socket.receive(
      into: UnsafeMutableRawBufferPointer(start: ciphertext.base, count: TLSClient.readBytes))
    session.pipe.provide(ciphertext.bytes(0..<got))
    return got > 0
  }

  private func flush() throws(IOError) {
    let output = session.pipe.takeOutput()
    if !output.isEmpty { try socket.send(output) }
  }

  private func error(_ reason: String) -> IOError { TLSError(.connection, peer.description, reason).asIOError }
}
