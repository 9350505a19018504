/** What a scene needs of a tenant, over the API: a colleague, a tag, a canned reply. */

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'

async function call(there, token, path, body) {
  const response = await fetch(there.address(`/api/v1${path}`), {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify(body),
  })
  const text = await response.text()
  assert.ok(response.ok, `${path}: ${text}`)
  return text === '' ? null : JSON.parse(text)
}

async function tokenOf(there, { email, password }) {
  return (await call(there, null, '/auth/login', { email, password })).access_token
}

/** Somebody who has just joined the tenant. */
export async function colleagueOf(there, admin) {
  const email = `${randomUUID()}@botyard.local`
  const password = randomBytes(16).toString('base64url')
  const name = `Mei ${randomBytes(3).toString('hex')}`
  const invited = await call(there, await tokenOf(there, admin), '/invitations', { email, role: 'member' })
  await call(there, null, '/invitations/accept', { token: invited.token, password, name })
  return { email, password, name }
}

/** A tag, and a canned reply with what it says to somebody without a name. */
export async function deskOf(there, admin) {
  const token = await tokenOf(there, admin)
  const unique = randomBytes(3).toString('hex')
  const tag = await call(there, token, '/tags', { name: `VIP ${unique}`, colour: 'purple' })
  const text = `{contact}您好，编号 ${unique}，稍后回复您。`
  const canned = await call(there, token, '/canned-replies', { code: unique, title: '查询', text })
  return { tag, canned: { code: canned.code, said: text.replace('{contact}', '访客') } }
}
