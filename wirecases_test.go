package auth_test

import (
	"encoding/base64"
	"strings"
)

// A wireCase is the Authorization fields of a request, one a line. KEY, SECRET (the key without its prefix), KEY43
// (without its last character), HASH, HINT and BASE64 (of the key) stand for those of a good key.
type wireCase struct {
	fields string
	want   answer
}

var placeholders = strings.NewReplacer("KEY43", goodKey[:47], "KEY", goodKey, "SECRET", goodKey[4:], "HASH", goodHash.String(),
	"HINT", "isk_…U1v2", "BASE64", base64.StdEncoding.EncodeToString([]byte(goodKey+":")))

// values are put behind "Authorization: ".
var wireValues = []wireCase{
	// The scheme.
	{"Bearer KEY", ok},
	{"bearer KEY", ok}, // RFC 9110 section 11.1: case-insensitive
	{"BEARER KEY", ok},
	{"bEaReR KEY", ok},
	{"", missing},
	{" ", missing},
	{"\t", missing},
	{"Bearer", missing},
	{"bearer", missing},
	{"Bearer ", missing},
	{"Bearer \t ", missing},
	{"BearerKEY", missing},
	{"Bearer:KEY", missing},
	{"Bearer: KEY", missing},
	{"Bearer=KEY", missing},
	{"Bearer,KEY", missing},
	{"Bearer, KEY", missing},
	{"Bearer/KEY", missing},
	{"Bearer%20KEY", missing},
	{"Bearer+KEY", missing},
	{"%42earer KEY", missing},
	{"KEY", missing},
	{"isk_", missing},
	{"SECRET", missing},
	{"Basic BASE64", missing},
	{"Basic KEY", missing},
	{"Basic x, Bearer KEY", missing},
	{"Token KEY", missing},
	{"ApiKey KEY", missing},
	{"OAuth KEY", missing},
	{"DPoP KEY", missing},
	{`Digest username="KEY"`, missing},
	{"Bearers KEY", missing},
	{"Beare KEY", missing},
	{"XBearer KEY", missing},
	{"Be arer KEY", missing},
	{"Be-arer KEY", missing},
	{`"Bearer KEY"`, missing},
	{`"Bearer" KEY`, missing},
	{"'Bearer KEY'", missing},
	{"Authorization: Bearer KEY", missing},
	{",Bearer KEY", missing},

	// White space.
	{"  Bearer KEY", ok},
	{"\tBearer KEY", ok},
	{" \t Bearer KEY", ok},
	{"Bearer KEY ", ok},
	{"Bearer KEY\t \t", ok},
	{"Bearer  KEY", ok}, // RFC 9110 section 11.4: 1*SP
	{"Bearer          KEY", ok},
	{"Bearer\tKEY", missing},
	{"Bearer\t KEY", missing},
	{"Bearer \tKEY", format},
	{"Bearer  \t KEY", format},
	{"Bearer\u00a0KEY", missing}, // no-break space
	{"Bearer\xa0KEY", missing},   // the same in Latin-1
	{"Bearer\u2003KEY", missing}, // em space
	{"Bearer\u3000KEY", missing}, // ideographic space
	{"Bearer\u2028KEY", missing}, // line separator
	{"Bearer\u0085KEY", missing}, // next line
	{"\u00a0Bearer KEY", missing},
	{"\ufeffBearer KEY", missing}, // byte order mark
	{"\u200bBearer KEY", missing}, // zero width space
	{"Bea\u200brer KEY", missing},
	{"Bearer \u00a0KEY", format},
	{"Bearer \u200bKEY", format},
	{"Bearer \ufeffKEY", format},
	{"Bearer KEY\u00a0", malformed},
	{"Bearer KEY\u200b", malformed},
	{"Bearer KEY KEY", malformed},
	{"Bearer KEY x", malformed},
	{"Bearer KEY\tx", malformed},
	{"Bearer isk_ SECRET", malformed},

	// Letters that look alike, or that some folding takes for the same.
	{"\u0412earer KEY", missing}, // Cyrillic Ve
	{"B\u0435arer KEY", missing}, // Cyrillic ie
	{"Be\u0430rer KEY", missing}, // Cyrillic a
	{"\uff22earer KEY", missing}, // fullwidth B
	{"\u1d2eearer KEY", missing}, // modifier B
	{"\xc2earer KEY", missing},   // B with the eighth bit
	{"\"earer KEY", missing},     // b without its two highest bits
	{"Be!rer KEY", missing},      // a without them
	{"Beare2 KEY", missing},      // r without one of them
	{"Bearer\u0301 KEY", missing},
	{"Bearer \u0456sk_SECRET", format}, // Cyrillic i
	{"Bearer \u0131sk_SECRET", format}, // dotless i
	{"Bearer \u0130sk_SECRET", format}, // I with a dot
	{"Bearer i\u017fk_SECRET", format}, // long s, folds to s
	{"Bearer is\u212a_SECRET", format}, // Kelvin sign, folds to k
	{"Bearer isk\uff3fSECRET", format}, // fullwidth low line
	{"Bearer \uff49\uff53\uff4b\uff3fSECRET", format},
	{"Bearer isk_\u0410" + goodKey[6:], malformed},     // Cyrillic A: two bytes for two characters, so the length is right
	{"Bearer isk_\uff21" + goodKey[7:], malformed},     // fullwidth A
	{"Bearer isk_\u212a" + goodKey[7:], malformed},     // Kelvin sign
	{"Bearer isk_A\u0301" + goodKey[7:], malformed},    // combining acute
	{"Bearer KEY\u0301", malformed},                    // the same at the end
	{"Bearer " + goodKey[:46] + "\u0661", malformed},   // Arabic digit
	{"Bearer " + goodKey[:47] + "\xff", malformed},     // no UTF-8
	{"Bearer " + goodKey[:46] + "\xc0\x80", malformed}, // overlong NUL

	// The prefix.
	{"Bearer x", format},
	{"Bearer *", format},
	{"Bearer null", format},
	{"Bearer ISK_SECRET", format},
	{"Bearer Isk_SECRET", format},
	{"Bearer isK_SECRET", format},
	{"Bearer isk-SECRET", format},
	{"Bearer iskSECRET", format},
	{"Bearer isk", format},
	{"Bearer sk_SECRET", format},
	{"Bearer _isk_SECRET", format},
	{"Bearer acme_live_SECRET", format},
	{"Bearer SECRET", format},
	{"Bearer Bearer KEY", format},
	{`Bearer "KEY"`, format},
	{"Bearer 'KEY'", format},
	{"Bearer <KEY>", format},
	{"Bearer =KEY", format},
	{"Bearer ,KEY", format},
	{"Bearer token=KEY", format},
	{`Bearer key="KEY"`, format},
	{"Bearer %69sk_SECRET", format},
	{"Bearer &#105;sk_SECRET", format},
	{`Bearer \u0069sk_SECRET`, format},
	{"Bearer =?utf-8?q?KEY?=", format}, // RFC 2047
	{"Bearer BASE64", format},
	{"Bearer eyJhbGciOiJub25lIn0.e30.", format},
	{"Bearer HASH", format},
	{"Bearer " + strings.Repeat("x", 200_000), format},

	// What follows it.
	{"Bearer isk_", malformed},
	{"Bearer isk_YOUR_API_KEY", malformed},
	{"Bearer KEY43", malformed},
	{"Bearer KEYx", malformed},
	{"Bearer KEY=", malformed},
	{"Bearer KEY==", malformed},
	{"Bearer KEY43=", malformed},
	{"Bearer KEY43+", malformed}, // base64, not base64url
	{"Bearer KEY43/", malformed},
	{"Bearer KEY43.", malformed},
	{"Bearer KEY43~", malformed},
	{"Bearer KEY,", malformed},
	{"Bearer KEY, ", malformed},
	{"Bearer KEY,KEY", malformed},
	{"Bearer KEY, Bearer KEY", malformed},
	{"Bearer KEY, Basic x", malformed},
	{"Bearer KEY;", malformed},
	{`Bearer KEY"`, malformed},
	{"Bearer KEY%00", malformed},
	{"Bearer KEY%20", malformed},
	{"Bearer KEY#", malformed},
	{"Bearer isk_%41" + goodKey[5:], malformed},
	{"Bearer isk_isk_SECRET", malformed},
	{"Bearer KEYKEY", malformed},
	{"Bearer isk_HASH", malformed},
	{"Bearer HINT", malformed},
	{"Bearer isk_U1v2", malformed},
	{"Bearer isk_" + strings.Repeat("%", 44), malformed}, // wildcards of SQL LIKE
	{"Bearer isk_" + strings.Repeat("*", 44), malformed},
	{"Bearer isk_' OR '1'='1' OR 'aaaaaaaaaaaaaaaaaaaaaaaaa'='", malformed},
	{"Bearer isk_" + strings.Repeat("A", 200_000), malformed},
	{"Bearer KEY" + strings.Repeat("A", 200_000), malformed},
	{"Bearer KEY" + strings.Repeat(" ", 200_000) + "x", malformed},
	{"Bearer" + strings.Repeat(" ", 200_000) + "KEY", ok},

	// Well-formed, but nobody's.
	{"Bearer isk_" + strings.Repeat("A", 44), unknown},
	{"Bearer isk_" + strings.Repeat("_", 44), unknown},
	{"Bearer isk_" + strings.Repeat("-", 44), unknown},
	{"Bearer KEY433", unknown},
	{"Bearer isk_B" + goodKey[5:], unknown},
	{"Bearer isk_" + strings.ToLower(goodKey[4:]), unknown},
	{"Bearer isk_" + strings.ToUpper(goodKey[4:]), unknown},
	{"Bearer isk_" + goodHash.String()[:44], unknown},
	{"Bearer isk_" + base64.RawURLEncoding.EncodeToString(goodHash[:]) + "A", unknown},

	// Several fields (RFC 9110 section 5.3): one value, joined by commas, and never a key.
	{"Bearer KEY\nBearer KEY", malformed},
	{"Bearer KEY\nBearer KEY\nBearer KEY", malformed},
	{"Bearer KEY\nBearer isk_x", malformed},
	{"Bearer isk_x\nBearer KEY", malformed},
	{"Bearer KEY\nBearer x", malformed},
	{"Bearer x\nBearer KEY", format},
	{"Bearer KEY\nBasic x", malformed},
	{"Basic x\nBearer KEY", missing},
	{"Bearer KEY\n", malformed},
	{"\nBearer KEY", missing},
	{"\n", missing},
	{"Bearer\nKEY", missing},
	{"Bearer isk_\nSECRET", malformed},
	{"Bearer KEY\nKEY", malformed},
}

// wireFields are whole header lines: other names, and what only raw bytes can say.
var wireFields = []wireCase{
	{"authorization: Bearer KEY", ok},
	{"AUTHORIZATION: Bearer KEY", ok},
	{"Authorization:Bearer KEY", ok},
	{"Authorization: Bearer KEY\r\nauthorization: Bearer KEY", malformed},
	{"Authorization: Bearer KEY\nX-Other: bare line feed", ok}, // RFC 9112 section 2.2 lets a recipient take it
	{"Authorization: Bearer KEY\r\nProxy-Authorization: Bearer x", ok},

	// Obsolete line folding (RFC 9112 section 5.2): net/http makes it one space.
	{"Authorization:\r\n Bearer KEY", ok},
	{"Authorization: Bearer\r\n KEY", ok},
	{"Authorization: Bearer\r\n\tKEY", ok},
	{"Authorization: Bearer KEY\r\n ", ok},
	{"Authorization: Bearer isk_\r\n SECRET", malformed},
	{"Authorization: Bearer KEY\r\n Bearer KEY", malformed},
	{"Authorization: Bearer KEY\r\n , Bearer KEY", malformed},
	{"X-Other: x\r\n Authorization: Bearer KEY", missing},

	// A key elsewhere is never read.
	{"X-Other: x", missing},
	{"Proxy-Authorization: Bearer KEY", missing},
	{"X-Api-Key: KEY", missing},
	{"Api-Key: KEY", missing},
	{"X-Authorization: Bearer KEY", missing},
	{"X-Forwarded-Authorization: Bearer KEY", missing},
	{"Authorisation: Bearer KEY", missing},
	{"Authentication: Bearer KEY", missing},
	{"Authorizatio: Bearer KEY", missing},
	{"Authorization2: Bearer KEY", missing},
	{"Authorization-Key: Bearer KEY", missing},
	{"X-Isk: KEY", missing},
	{"Cookie: Authorization=Bearer KEY", missing},
	{"Cookie: api_key=KEY; token=KEY; access_token=KEY; key=KEY; auth=KEY; isk=KEY; session=KEY", missing},
	{"Sec-WebSocket-Protocol: bearer, KEY", missing},
	{"Www-Authenticate: Bearer KEY", missing},
	{"Referer: https://example.com/?key=KEY", missing},
	{"User-Agent: Bearer KEY", missing},
	{"X-Api-Key: KEY\r\nAuthorization: Bearer x", format},

	// What net/http itself refuses: control bytes, and names that are none.
	{"Authorization: Bearer KEY\x00", refused},
	{"Authorization: \x00Bearer KEY", refused},
	{"Authorization: Bearer\x00KEY", refused},
	{"Authorization: Bearer isk_\x00SECRET", refused},
	{"Authorization: Bearer KEY\x01", refused},
	{"Authorization: Bearer\x07KEY", refused},
	{"Authorization: Bearer KEY\x08", refused},
	{"Authorization: Bearer\x0bKEY", refused},
	{"Authorization: Bearer\x0cKEY", refused},
	{"Authorization: Bearer KEY\x1b[0m", refused},
	{"Authorization: Bearer KEY\x1f", refused},
	{"Authorization: Bearer KEY\x7f", refused},
	{"Authorization: Bearer\rKEY", refused},
	{"Authorization : Bearer KEY", refused},
	{" Authorization: Bearer KEY", refused},
	{"Author ization: Bearer KEY", refused},
	{"\u0410uthorization: Bearer KEY", refused},
	{"Authorization Bearer KEY", refused},
	{"Authorization\x00: Bearer KEY", refused},
}

// wireRequests are whole requests, but for the Host and the end of the header.
var wireRequests = []wireCase{
	{"GET /?api_key=KEY&access_token=KEY&authorization=Bearer+KEY HTTP/1.1", missing},
	{"GET /KEY HTTP/1.1", missing},
	{"GET http://KEY:@api.example/ HTTP/1.1", missing},
	{"GET http://isk_:KEY@api.example/ HTTP/1.1", missing},
	{"POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 61\r\n\r\naccess_token=KEY", missing},
	{"POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 61\r\n\r\n{\"apiKey\":\"KEY\"}", missing},
	{"POST / HTTP/1.1\r\nTrailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAuthorization: Bearer KEY\r\n\r\n", missing},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAuthorization: Bearer KEY\r\n\r\n", missing},
	{"POST / HTTP/1.1\r\nAuthorization: Bearer x\r\nContent-Length: 1\r\n\r\nx", format},
	{"OPTIONS / HTTP/1.1\r\nAccess-Control-Request-Method: GET", missing},
	{"GET / HTTP/1.1\r\nX-Http-Method-Override: OPTIONS", missing},
	{"HEAD / HTTP/1.1", missing},
	{"HEAD / HTTP/1.1\r\nAuthorization: Bearer x", format},
	{"HEAD / HTTP/1.1\r\nAuthorization: Bearer isk_x", malformed},
	{"HEAD / HTTP/1.1\r\nAuthorization: Bearer isk_" + "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", unknown},
	{"GET / HTTP/1.1\r\nAccept: text/html", missing},
	{"GET / HTTP/1.1\r\nAccept: application/xml;q=1, */*;q=0", missing},
	{"GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\nAccept-Language: de", missing},
	{"GET / HTTP/1.1\r\nIf-None-Match: *\r\nRange: bytes=0-1", missing},
}
