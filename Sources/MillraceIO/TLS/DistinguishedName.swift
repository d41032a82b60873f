// DistinguishedName: a certificate's subject as text, in the form in which Kafka prints it and its mapping rules expect it.
//
// RFC 2253 as Java's X500Principal.getName writes it: the last part first, parts joined by "," and parts of one set by "+",
// nothing between them; the nine keywords below; any other type by its number, with its value as "#" and the hexadecimal
// digits of its encoding.

import COpenSSL

enum DistinguishedName {
  /// Source: RFC 2253, 2.3.
  private static let keywords: [Int32: String] = [
    NID_commonName: "CN", NID_countryName: "C", NID_localityName: "L", NID_stateOrProvinceName: "ST",
    NID_organizationName: "O", NID_organizationalUnitName: "OU", NID_streetAddress: "STREET", NID_domainComponent: "DC",
    NID_userId: "UID",
  ]
  private static let textTypes: Set<Int32> = [
    V_ASN1_PRINTABLESTRING, V_ASN1_UTF8STRING, V_ASN1_T61STRING, V_ASN1_IA5STRING, V_ASN1_GENERALSTRING,
    V_ASN1_BMPSTRING, V_ASN1_UNIVERSALSTRING,
  ]

  /// The name of an `X509_NAME`.
  static func text(_ name: OpaquePointer) -> String {
    var sets: [(set: Int32, parts: [String])] = []
    for index in 0..<max(0, X509_NAME_entry_count(name)) {
      guard let entry = X509_NAME_get_entry(name, index) else { continue }
      let set = X509_NAME_ENTRY_set(entry)
      if sets.last?.set != set { sets.append((set, [])) }
      sets[sets.count - 1].parts.append(part(entry))
    }
    return sets.reversed().map { $0.parts.joined(separator: "+") }.joined(separator: ",")
  }

  /// The last common name of an `X509_NAME`, which is the most specific one.
  static func commonName(_ name: OpaquePointer) -> String? {
    var found: String?
    var index = X509_NAME_get_index_by_NID(name, NID_commonName, -1)
    while index >= 0 {
      if let entry = X509_NAME_get_entry(name, index), let value = X509_NAME_ENTRY_get_data(entry) {
        found = utf8(value) ?? found
      }
      index = X509_NAME_get_index_by_NID(name, NID_commonName, index)
    }
    return found
  }

  private static func part(_ entry: OpaquePointer) -> String {
    guard let type = X509_NAME_ENTRY_get_object(entry), let value = X509_NAME_ENTRY_get_data(entry) else { return "" }
    if let keyword = keywords[OBJ_obj2nid(type)], textTypes.contains(ASN1_STRING_type(value)), let text = utf8(value) {
      return "\(keyword)=\(escaped(text))"
    }
    return "\(number(type))=#\(encoded(value))"
  }

  /// An ASN.1 string as text; nil when it is not valid in its own encoding.
  static func utf8(_ value: UnsafePointer<ASN1_STRING>) -> String? {
    var out: UnsafeMutablePointer<UInt8>?
    let count = ASN1_STRING_to_UTF8(&out, value)
    guard count >= 0, let out else {
      OpenSSL.drainErrors()
      return nil
    }
    defer { CRYPTO_free(out, "", 0) }
    return String(decoding: UnsafeBufferPointer(start: out, count: Int(count)), as: UTF8.self)
  }

  private static func number(_ type: OpaquePointer) -> String {
    var room = [CChar](repeating: 0, count: 128)
    let count = OBJ_obj2txt(&room, Int32(room.count), type, 1)
    guard count > 0 else { return "?" }
    return String(decoding: room.prefix(Int(min(count, 127))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private static func encoded(_ value: UnsafePointer<ASN1_STRING>) -> String {
    // The type's own encoding: its tag is that of the string.
    let bytes = ASN1_STRING_get0_data(value)
    let count = Int(ASN1_STRING_length(value))
    var out: [UInt8] = [UInt8(truncatingIfNeeded: ASN1_STRING_type(value))]
    if count < 128 {
      out.append(UInt8(count))
    } else {
      let length = withUnsafeBytes(of: UInt32(count).bigEndian) { Array($0.drop { $0 == 0 }) }
      out.append(0x80 | UInt8(length.count))
      out += length
    }
    if let bytes { out += UnsafeBufferPointer(start: bytes, count: count) }
    return out.hexadecimal
  }

  static func escaped(_ text: String) -> String {
    let scalars = Array(text.unicodeScalars)
    let first = scalars.firstIndex { $0 != " " } ?? scalars.count
    let last = scalars.lastIndex { $0 != " " } ?? -1
    var out = ""
    for (index, scalar) in scalars.enumerated() {
      switch scalar {
      case "\0": out += "\\00"
      case ",", "=", "+", "<", ">", "#", ";", "\"", "\\":
        out += "\\"
        out.unicodeScalars.append(scalar)
      case " " where index < first || index > last: out += "\\ "
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }
}

extension Sequence<UInt8> {
  /// Two lower-case digits a byte.
  var hexadecimal: String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }
}
