/** Who and what a scene needs, made over the API: companies, colleagues, tags, canned replies. */

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'

const TOO_MANY = 429
const LOOK_EVERY_MS = 100

/** Calls the API as somebody, or as nobody: `call(method, path, body)`. Waits where it is told to. */
export async function callerFor(there, person = null) {
  const headers = { 'content-type': 'application/json' }
  const call = async (method, path, body) => {
    const init = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }
    for (;;) {
      const response = await fetch(there.address(`/api/v1${path}`), init)
      const text = await response.text()
      if (response.status === TOO_MANY) {
        await new Promise((resolve) => setTimeout(resolve, 1_000 * Number(response.headers.get('retry-after') ?? 1)))
        continue
      }
      assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`)
      return text === '' ? null : JSON.parse(text)
    }
  }
  if (person === null) return call
  const { email, password } = person
  headers.authorization = `Bearer ${(await call('POST', '/auth/login', { email, password })).access_token}`
  return call
}

const somebody = () => ({ email: `${randomUUID()}@botyard.local`, password: randomBytes(16).toString('base64url') })

/** A company that waits for an operator, and its first admin. */
export async function companyOf(there) {
  const company = `花房 ${randomUUID().slice(0, 8)}`
  const admin = somebody()
  const call = await callerFor(there)
  await call('POST', '/auth/register', { company, ...admin })
  return { company, admin }
}

/** The operator lets it in. */
export async function approve(there, admin) {
  const { tenant_id: tenant } = await (await callerFor(there, admin))('GET', '/auth/me')
  await (await callerFor(there, there.firstRun.operator))('POST', `/tenants/${tenant}/approve`)
}

/** Somebody who has just joined the tenant. */
export async function colleagueOf(there, admin) {
  const { email, password } = somebody()
  const name = `Mei ${randomBytes(3).toString('hex')}`
  const invited = await (await callerFor(there, admin))('POST', '/invitations', { email, role: 'member' })
  await (await callerFor(there))('POST', '/invitations/accept', { token: invited.token, password, name })
  return { email, password, name }
}

/** A tag, and a canned reply with what it says to somebody without a name. */
export async function deskOf(there, admin) {
  const call = await callerFor(there, admin)
  const unique = randomBytes(3).toString('hex')
  const tag = await call('POST', '/tags', { name: `VIP ${unique}`, colour: 'purple' })
  const text = `{contact}您好，编号 ${unique}，稍后回复您。`
  const canned = await call('POST', '/canned-replies', { code: unique, title: '查询', text })
  return { tag, canned: { code: canned.code, said: text.replace('{contact}', '访客') } }
}

/** The tenant's first bot asks this model from now on; null for none. */
export async function modelOf(there, admin, model) {
  const call = await callerFor(there, admin)
  const [{ id: bot }] = (await call('GET', '/instances')).items
  const document = model === null ? {} : await askingOf(call, model)
  const { id, number } = await call('POST', `/instances/${bot}/revisions`, { document })
  await call('POST', `/revisions/${id}/publish`)
  await until(async () => (await call('GET', `/instances/${bot}/revisions`)).standing.applied === number)
}

async function askingOf(call, { url }) {
  const account = { name: `M ${randomUUID()}`, kind: 'openai', base_url: url, api_key: 'sk-of-a-scene' }
  const provider = await call('POST', '/providers', account)
  return { llm: { models: [{ provider: provider.id, model: 'm' }] } }
}

/** A new channel of the tenant's first bot at a stand-in of WeCom; what the stand-in is asked and told. */
export async function wecomOf(there, admin, settings) {
  const call = await callerFor(there, admin)
  const control = async (order) => {
    const init = order && { method: 'POST', body: JSON.stringify(order) }
    return (await fetch(`${settings.base_url}/control`, init)).json()
  }
  const [{ id: bot }] = (await call('GET', '/instances')).items
  const channel = await call('POST', `/instances/${bot}/channels`, { kind: 'wecom', name: '企业微信', settings })
  await control({ callback_url: there.address(new URL(channel.callback_url).pathname) })
  await until(async () => (await call('GET', `/channels/${channel.id}`)).state === 'connected')
  return {
    hit: (faults) => control({ faults }),
    say: (text) => control({ say: { user: 'zhangsan', text } }),
    /** How often the customer was shown this. */
    timesShown: async (text) => (await control()).seen.filter(({ payload }) => payload.content === text).length,
  }
}

/** Looks until it is so; whoever plays the scene ends it when that is never. */
export async function until(look) {
  while (!(await look())) await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS))
}

/** An approved company's first bot with a web chat, once it runs; what it can answer, and where. */
export async function chatOf(there, admin, items) {
  const call = await callerFor(there, admin)
  const { id } = await call('POST', '/instances', { name: 'bot' })
  const { webchat_url: url } = await call('POST', `/instances/${id}/channels`, { kind: 'webchat', name: '网页' })
  await call('PUT', '/answers', { items })
  await until(async () => (await call('GET', `/instances/${id}`)).phase === 'running')
  return url
}
