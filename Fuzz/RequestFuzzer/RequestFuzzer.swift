// RequestFuzzer: request frames of any API; what is accepted must survive writing and reading again.

import MillraceBase
import MillraceKafkaProtocol

/// Reads `size` bytes as a request frame without its size field.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzRequest(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  // A copy of the exact size, so that the address sanitizer sees a read past its end.
  let frame = Bytes(copying: UnsafeRawBufferPointer(start: data, count: size))
  var reader = ByteReader(frame)
  do throws(DecodingError) {
    let header = try RequestHeader(from: &reader)
    guard let api = header.api, header.isSupported else { return 0 }
    try recode(api.requestType, &reader, version: header.apiVersion)
    // The same bytes as the response that would answer it.
    var answer = ByteReader(frame[(size - reader.remaining)..<size])
    try recode(api.responseType, &answer, version: header.apiVersion)
  } catch {
    precondition(error.position >= 0 && error.position <= size, "position \(error.position) of \(size)")
  }
  return 0
}

private func recode<Message: KafkaMessage>(
  _ type: Message.Type, _ reader: inout ByteReader, version: Int16
) throws(DecodingError) {
  let body = reader
  let value: Message
  do throws(DecodingError) {
    value = try Message(from: &reader, version: version)
  } catch {
    // Not this message; the caller may try the bytes as another.
    reader = body
    return
  }
  var writer = ByteWriter()
  value.encode(to: &writer, version: version)
  var second = ByteReader(writer.finishJoined())
  let again: Message
  do throws(DecodingError) {
    again = try Message(from: &second, version: version)
  } catch {
    preconditionFailure("\(type) version \(version) was accepted, written, and refused: \(error)")
  }
  // What is not a number differs from itself, but is described alike.
  let isStable = again == value || String(describing: again) == String(describing: value)
  precondition(isStable, "\(type) version \(version) changes when written and read again")
  precondition(second.remaining == 0, "\(type) version \(version) leaves \(second.remaining) of its own bytes")
}
