// ClientFrames: responses as a client reads them.

import FuzzHarness
import MillraceBase
import MillraceKafkaProtocol
import MillraceKafkaServer

/// Responses with their headers, as a client reads them from a server that it does not trust.
let clientFrames = FuzzTarget(name: "client-frames") { input in
  var choices = Choices(input)
  let api = APIKey.allCases[choices.number(below: APIKey.allCases.count)]
  let versions = api.supportedVersions
  let version = versions.lowerBound + Int16(choices.byte()) % Int16(versions.count)
  let frame = choices.rest()
  func decode<Request: KafkaRequest>(_ type: Request.Type) {
    do throws(DecodingError) {
      _ = try KafkaFrame.decodeResponse(to: type, version: version, from: frame)
    } catch {
      precondition(error.position >= 0 && error.position <= frame.count, "position \(error.position) of \(frame.count)")
    }
  }
  decode(api.requestType)
  do throws(DecodingError) {
    _ = try FiguresAPI.answer(ofResponse: frame)
  } catch {
    precondition(error.position >= 0 && error.position <= frame.count, "position \(error.position) of \(frame.count)")
  }
}
