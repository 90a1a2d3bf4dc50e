// Manages keys with the types in api.d.ts, which openapi-typescript generates
// from the OpenAPI document. Its argument is the address of the API, and
// API_KEY a key that may manage keys.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Problem = components["schemas"]["Problem"];

const url = process.argv[2] ?? "";
const admin = client(process.env["API_KEY"] ?? "");

// client returns a client that sends a key.
function client(key: string) {
  return createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });
}

// must returns the data of an answer, or fails with its problem.
function must<T>(what: string, answer: { data?: T; error?: Problem; response: Response }): T {
  if (answer.data === undefined) {
    throw new Error(`${what}: ${answer.response.status} ${JSON.stringify(answer.error)}`);
  }
  return answer.data;
}

function equal<T>(what: string, got: T, want: T) {
  if (got !== want) {
    throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
  }
}

// refusal uses a key. It returns the code with which the key is refused.
async function refusal(key: string): Promise<string | undefined> {
  const { error } = await client(key).GET("/self");
  return error?.code;
}

const made = must("create", await admin.POST("/", {
  params: { header: { "Idempotency-Key": "another random text" } },
  body: {
    name: "from TypeScript",
    scopes: ["documents.read"],
    expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
  },
}));
if (!("key" in made)) {
  throw new Error("create: it is a repeat");
}
equal("the key expires", made.expiresAt !== null, true);
equal("refusal of the key", await refusal(made.key), undefined);

const update = await admin.PATCH("/{id}", {
  params: { path: { id: made.id } },
  body: { expiresAt: null },
  headers: { "Content-Type": "application/merge-patch+json" },
});
const changed = must("update", update);
equal("expiry", changed.expiresAt, null);
equal("name, which was left out", changed.name, "from TypeScript");

const next = must("rotate", await admin.POST("/{id}/rotate", {
  params: { path: { id: made.id }, header: { "If-Match": update.response.headers.get("ETag") ?? "" } },
  body: { graceSeconds: 0 },
}));
equal("refusal of the old key", await refusal(made.key), "KEY_EXPIRED");
equal("refusal of the new key", await refusal(next.key), undefined);

const again = await admin.POST("/{id}/rotate", { params: { path: { id: made.id } } });
equal("code of a second rotation", again.error?.code, "KEY_ROTATED");

const revoked = must("revoke", await admin.POST("/{id}/revoke", { params: { path: { id: next.id } } }));
equal("status", revoked.status, "revoked");
equal("refusal of the revoked key", await refusal(next.key), "KEY_REVOKED");

const ids: string[] = [];
for (let cursor: string | null = ""; cursor !== null;) {
  const query: paths["/"]["get"]["parameters"]["query"] = { limit: 1, q: "from TypeScript" };
  if (cursor !== "") {
    query.cursor = cursor;
  }
  const page: components["schemas"]["KeyList"] = must("list", await admin.GET("/", { params: { query } }));
  ids.push(...page.data.map((key) => key.id));
  cursor = page.meta.nextCursor;
}
equal("list", ids.join(), [next.id, made.id].join());
