// OpenSSLAlone: what OpenSSL itself takes to decrypt a stream in memory, with nothing of ours around it: the least that TLS can cost a
// server that uses it.

import COpenSSL
import MillraceBase
import MillraceIO

enum OpenSSLAlone {
  /// Processor seconds per 10^9 bytes of content, in records of `size` bytes.
  /// - Parameter bytes: content in all; it lies in memory once, encrypted.
  static func decrypting(_ bytes: Int, size: Int, certificate: String, key: String) throws -> Double {
    let contexts = [SSL_CTX_new(TLS_server_method()), SSL_CTX_new(TLS_client_method())]
    defer { for context in contexts { SSL_CTX_free(context) } }
    try check(SSL_CTX_use_certificate_file(contexts[0], certificate, SSL_FILETYPE_PEM) == 1)
    try check(SSL_CTX_use_PrivateKey_file(contexts[0], key, SSL_FILETYPE_PEM) == 1)
    try check(SSL_CTX_set_ciphersuites(contexts[0], "TLS_AES_128_GCM_SHA256") == 1)
    guard let server = SSL_new(contexts[0]), let client = SSL_new(contexts[1]), let toServer = BIO_new(BIO_s_mem()),
      let toClient = BIO_new(BIO_s_mem())
    else { throw failure }
    defer {
      SSL_free(server)
      SSL_free(client)
    }
    BIO_up_ref(toServer)
    BIO_up_ref(toClient)
    SSL_set_bio(server, toServer, toClient)
    SSL_set_bio(client, toClient, toServer)
    SSL_set_accept_state(server)
    SSL_set_connect_state(client)
    for _ in 0..<4 {
      _ = SSL_do_handshake(client)
      _ = SSL_do_handshake(server)
    }
    try check(SSL_is_init_finished(server) == 1 && SSL_is_init_finished(client) == 1)

    let piece = Chunk(capacity: 1 << 20)
    piece.base.initializeMemory(as: UInt8.self, repeating: 7, count: piece.capacity)
    let total = bytes / size * size
    var sent = 0
    while sent < total {
      try check(SSL_write(client, piece.base, Int32(size)) == size)
      sent += size
    }
    let begin = Server.ownSeconds()
    var got = 0
    while got < total {
      var filled = 0
      while filled < piece.capacity && got < total {
        var count = 0
        try check(SSL_read_ex(server, piece.base + filled, piece.capacity - filled, &count) == 1)
        filled += count
        got += count
      }
    }
    return (Server.ownSeconds() - begin) * 1e9 / Double(total)
  }

  private static var failure: IOError {
    IOError(.failed, operation: "decrypt", subject: "OpenSSL alone", reason: "OpenSSL refuses")
  }

  private static func check(_ isRight: Bool) throws {
    guard isRight else { throw failure }
  }
}
