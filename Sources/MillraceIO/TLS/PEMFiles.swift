// PEMFiles: certificates, keys and revocation lists out of files, with errors that name the file and what is wrong with it.

import COpenSSL
import MillraceBase

/// Reads PEM files.
struct PEMFiles {
  let files: any FileSystem

  /// Every certificate in a file, in order; at least one.
  func certificates(_ path: String, _ code: TLSError.Code) throws(TLSError) -> [OwnedCertificate] {
    let found = try items(path, code) { PEM_read_bio_X509($0, nil, refusePassword, nil) }
    guard !found.isEmpty else { throw TLSError(code, path, "holds no certificate (PEM, BEGIN CERTIFICATE)") }
    return found.map { OwnedCertificate(owning: $0) }
  }

  /// Calls `body` with each revocation list of a file; at least one.
  func revocationLists(_ path: String, _ body: (OpaquePointer) -> Void) throws(TLSError) {
    let found = try items(path, .badRevocationList) { PEM_read_bio_X509_CRL($0, nil, refusePassword, nil) }
    guard !found.isEmpty else {
      throw TLSError(.badRevocationList, path, "holds no revocation list (PEM, BEGIN X509 CRL)")
    }
    for list in found {
      body(list)
      X509_CRL_free(list)
    }
  }

  /// The first private key of a file. The caller owns it.
  func key(_ path: String) throws(TLSError) -> OpaquePointer {
    let contents = try read(path)
    let bio = PEMFiles.bio(over: contents)
    defer { BIO_free(bio) }
    ERR_clear_error()
    let key = contents.withBuffer { _ in PEM_read_bio_PrivateKey(bio, nil, refusePassword, nil) }
    let reason = OpenSSL.drainErrors()
    if let key { return key }
    let text = contents.text
    if !text.contains("PRIVATE KEY-----") {
      throw TLSError(.badKey, path, "holds no private key (PEM, BEGIN PRIVATE KEY)")
    }
    if text.contains("ENCRYPTED") {
      throw TLSError(.badKey, path, "the key is encrypted; keep one without a password, readable by its owner only")
    }
    throw TLSError(.badKey, path, reason ?? "no private key")
  }

  private func read(_ path: String) throws(TLSError) -> Bytes {
    do throws(IOError) {
      return try files.readAll(path, limit: TLSRules.fileLimit)
    } catch {
      throw TLSError(.fileUnreadable, path, error.reason)
    }
  }

  private func items(_ path: String, _ code: TLSError.Code, _ next: (OpaquePointer) -> OpaquePointer?)
    throws(TLSError) -> [OpaquePointer]
  {
    let contents = try read(path)
    let bio = PEMFiles.bio(over: contents)
    defer { BIO_free(bio) }
    var found: [OpaquePointer] = []
    ERR_clear_error()
    contents.withBuffer { _ in while let item = next(bio) { found.append(item) } }
    let last = ERR_peek_last_error()
    let reason = OpenSSL.drainErrors()
    // The end of the file shows as a missing start line.
    guard PEMFiles.isNoStart(last) else {
      throw TLSError(code, path, "item \(found.count + 1): \(reason ?? "cannot be read")")
    }
    return found
  }

  private static func isNoStart(_ code: UInt) -> Bool { mr_err_reason(code) == PEM_R_NO_START_LINE }

  // Safety: the BIO reads the bytes in place, while the caller keeps them.
  private static func bio(over contents: Bytes) -> OpaquePointer {
    guard OpenSSL.isReady, let bio = BIO_new_mem_buf(contents.start, Int32(contents.count)) else {
      preconditionFailure("out of memory: no BIO")
    }
    return bio
  }
}

/// Never asks the terminal for a password, which OpenSSL would otherwise do.
private let refusePassword:
  @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) -> Int32 = { _, _, _, _ in -1 }
