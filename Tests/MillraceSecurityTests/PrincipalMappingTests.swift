// PrincipalMappingTests: principals of certificates, by Kafka's rules and by the common name.

import MillraceSecurity
import Testing

private let duke = "CN=Duke,OU=ServiceUsers,O=Org,C=US"

private func principal(_ rules: String, _ name: String) throws -> String {
  try PrincipalMapping(rules).principal(of: name).name
}

// The first five are the examples of Kafka's documentation and of KIP-371.
private let examples: [(String, String, String)] = [
  ("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/", "CN=serviceuser,OU=ServiceUsers,O=Unknown,C=Unknown", "serviceuser"),
  (
    "RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L",
    "CN=adminUser,OU=Admin,O=Unknown,L=Unknown,ST=Unknown,C=Unknown", "adminuser@admin"
  ),
  ("RULE:^cn=(.*?),ou=(.*?),dc=(.*?),dc=(.*?)$/$1@$2/U", "cn=a,ou=b,dc=c,dc=d", "A@B"),
  ("RULE:^CN=([^,]+),.*$/$1/, DEFAULT", "CN=x,O=y", "x"),
  ("RULE:^CN=([^,]+),.*$/$1/, DEFAULT", "O=y", "O=y"),
  ("DEFAULT", duke, duke), ("", duke, duke), ("DN", duke, duke), ("CN", duke, "Duke"), (" CN\n", duke, "Duke"),
  (" , RULE:nothing/x/ ,, RULE:CN=(\\w+),.*/$1/U ,", duke, "DUKE"),
  // What stands for a group, for a slash, for itself.
  ("RULE:CN=(\\w+),OU=(\\w+),.*/$2\\/$1/", duke, "ServiceUsers/Duke"),
  ("RULE:CN=(a\\/b),.*/<$1>/", "CN=a/b,O=x", "<a/b>"),
  ("RULE:CN=(\\w+),.*/$12/", duke, "Duke2"), ("RULE:CN=(\\w+),.*/$2/", duke, "$2"),
  ("RULE:CN=(\\w+),.*/\\$1\\\\/", duke, "$1\\"), ("RULE:CN=\\w+.*/fixed/", duke, "fixed"),
  ("RULE:CN=(\\w+),.*/$0/", duke, duke), ("RULE:CN=(\\w+)(x)?,.*/$1$2/", duke, "Duke"),
  ("RULE:CN=(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)/$11$10/", "CN=abcdefghijk", "kj"),
  ("RULE:CN=([^,]*),.*/$1/L", "CN=ÄÖ,O=x", "äö"),
]

@Test("the first rule that fits gives the principal", arguments: examples)
func rules(_ rules: String, _ name: String, _ expected: String) throws {
  #expect(try principal(rules, name) == expected)
}

@Test(
  "rules that nobody can follow are refused with their place",
  arguments: [
    "RULE", "RULE:", "RULE:a", "RULE:a/b", "RULE:(/b/", "RULE:a/b/X", "RULE:a/b/LU", "DEFAULTS", "a", ",", ",,",
    "RULE:(?=a)/b/", "RULE:(a)\\1/b/", "RULE:a/${name}/", "RULE:a/$/", "RULE:a/$123/", "RULE:a/b\\/", "DN,CN",
    "RULE:a/b/ DEFAULT", String(repeating: "DEFAULT,", count: 33), String(repeating: " ", count: 20_000),
  ])
func refusedRules(_ rules: String) {
  #expect(throws: SecuritySettingError.self) { try PrincipalMapping(rules) }
}

private let unfit: [(String, String)] = [
  ("RULE:CN=x/y/", duke), ("CN", "O=Org"), ("CN", ""), ("DN", ""), ("CN", "CN=a,CN=b"), ("CN", "CN=a+CN=b"),
  ("CN", "CN=*"), ("CN", "CN=ANONYMOUS"), ("CN", "CN=a\\0Ab"), ("CN", "CN=a\\00"), ("CN", "CN="), ("DN", "CN=a\nb"),
  ("CN", "CN=#0401"), ("CN", "CN=\"a\""), ("CN", "CN=\\FF"), ("CN", "CN"), ("CN", "=a"), ("CN", "CN=a,"),
  ("CN", "CN=a\\"), ("CN", "CN=a\\q"), ("CN", "CN=a<b"),
  ("RULE:(a*)*(a*)*(a*)*b/x/", String(repeating: "a", count: 200) + "bc"),
  ("DN", "CN=" + String(repeating: "a", count: 1022)), ("CN", "CN=" + String(repeating: "a", count: 4094)),
  ("CN", String(repeating: "O=a,", count: 64) + "CN=b"), ("RULE:CN=(x)?.*/$1/", duke),
]

@Test("a certificate that no rule fits, or whose name no principal can have, is refused", arguments: unfit)
func refusedNames(_ rules: String, _ name: String) throws {
  let mapping = try PrincipalMapping(rules)
  do {
    let principal = try mapping.principal(of: name)
    Issue.record("\(principal)")
  } catch { #expect(error.code == .unmappedCertificate) }
}

// Examples of RFC 2253, section 5.
@Test("names of RFC 2253 are taken apart")
func distinguishedNames() throws {
  func parts(_ text: String) throws -> [String] {
    try DistinguishedName(text).attributes.map { "\($0.type)|\($0.value)" }
  }
  #expect(try parts("CN=Steve Kille,O=Isode Limited,C=GB") == ["CN|Steve Kille", "O|Isode Limited", "C|GB"])
  #expect(
    try parts("OU=Sales+CN=J. Smith,O=Widget Inc.,C=US") == ["OU|Sales", "CN|J. Smith", "O|Widget Inc.", "C|US"])
  #expect(
    try parts("CN=L. Eagle,O=Sue\\, Grabbit and Runn,C=GB") == ["CN|L. Eagle", "O|Sue, Grabbit and Runn", "C|GB"])
  #expect(try parts("CN=Before\\0DAfter,O=Test,C=GB") == ["CN|Before\rAfter", "O|Test", "C|GB"])
  #expect(try parts("SN=Lu\\C4\\8Di\\C4\\87") == ["SN|Lučić"])
  #expect(try parts("CN = a b  ; O=\\ x\\ ") == ["CN|a b", "O| x "])
  #expect(try parts("") == [])
  #expect(try DistinguishedName("2.5.4.3=x").commonName() == "x")
  #expect(try DistinguishedName("cn=x").commonName() == "x")
}
