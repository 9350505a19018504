// A certified OpenID provider on a free port of loopback; says its address on the first line.
//
// Whoever signs in as `lin@tea.example` has that e-mail address, and as `lin@tea.example#2` is
// another person with the same one; `unverified:…` has not shown that the address is theirs.
// POST /rotate: new signing keys; the old ones and all clients are forgotten.

import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import Provider from 'oidc-provider'

let provider
const server = createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/rotate') {
    provider = build()
    response.writeHead(204).end()
    return
  }
  provider.callback()(request, response)
})

function claimsOf(subject) {
  const words = subject.replace(/^unverified:/, '').split('#')
  return {
    sub: subject,
    email: words[0],
    email_verified: !subject.startsWith('unverified:'),
    name: words[0].split('@')[0],
  }
}

function build() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const key = { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' }
  const made = new Provider(`http://127.0.0.1:${server.address().port}`, {
    jwks: { keys: [key] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    // Whether the e-mail address is told at the user info endpoint only.
    conformIdTokenClaims: process.argv.includes('--user-info'),
    cookies: { keys: ['of a provider that lives for a test'] },
    features: { registration: { enabled: true } },
    findAccount: (_context, subject) => ({ accountId: subject, claims: () => claimsOf(subject) }),
    ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
  })
  made.on('server_error', (_context, error) => console.error(error))
  return made
}

server.listen(0, '127.0.0.1', () => {
  provider = build()
  console.log(`http://127.0.0.1:${server.address().port}`)
})
