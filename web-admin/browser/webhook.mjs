/** A company's own system turns a call away; somebody looks at why, switches it on again, and sends it once more. */

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { inBrowser, signIn, visit } from './browser.mjs'
import { until } from './people.mjs'

const GONE = 410
const TAKEN = 204

export async function webhook(there) {
  await withReceiver(async (receiver) => {
    await inBrowser({}, async (page) => {
      await signIn(page, there.address, there.firstRun.demo)
      const secret = await add(page, there, receiver)
      await inBrowser({}, (visitor) => visit(visitor, there, '你们几点开门？'))
      const id = await look(page)
      receiver.status = TAKEN
      await replay(page)
      assert.deepEqual(receiver.calls.map((call) => call.id), [id, id])
      for (const call of receiver.calls) assert.ok(isOurs(call, secret), 'not signed by us')
      await remove(page, receiver)
    })
  })
}

/** Somebody's own system, which keeps what it was told. */
async function withReceiver(walk) {
  const receiver = { status: GONE, calls: [] }
  const server = createServer(async (request, response) => {
    const body = await text(request)
    const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signature } = request.headers
    receiver.calls.push({ id, at, signature, body })
    response.writeHead(receiver.status).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  receiver.host = `127.0.0.1:${server.address().port}`
  try {
    await walk(receiver)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

const button = (part, name) => part.getByRole('button', { name, exact: true })

/** Gives the secret, which is shown once. */
async function add(page, { address }, { host }) {
  await page.goto(address('/app/webhooks'))
  await button(page, '添加地址').click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('地址（URL）').fill(`http://${host}/hook`)
  await dialog.getByLabel('客户发来消息').check()
  await button(dialog, '添加地址').click()
  const shown = page.getByRole('dialog').filter({ hasText: '的签名密钥' })
  const secret = await shown.locator('code').innerText()
  await button(shown, '关闭').last().click()
  await shown.waitFor({ state: 'hidden' })
  await page.getByRole('link', { name: host }).click()
  await page.getByRole('heading', { name: host }).waitFor()
  return secret
}

/** What came of it, and what was in it; gives its id. */
async function look(page) {
  await page.locator('.title').getByText('已停用').waitFor()
  await page.getByText('对方回答 410，表示地址已不存在。').waitFor()
  await button(page, '刷新').click()
  const row = page.locator('tbody tr')
  await row.getByText('已放弃').waitFor()
  await row.getByText('对方回答 410').waitFor()
  await row.locator('summary').click()
  await row.locator('pre', { hasText: '"type": "message.received"' }).waitFor()
  return row.locator('details code').innerText()
}

async function replay(page) {
  await button(page, '启用').click()
  await page.locator('.title').getByText('启用', { exact: true }).waitFor()
  const row = page.locator('tbody tr')
  await button(row, '重新发送').click()
  await row.getByText('已放弃').waitFor({ state: 'detached' })
  await until(async () => {
    await button(page, '刷新').click()
    await row.waitFor()
    return row.getByText('已收下').isVisible()
  })
}

async function remove(page, { host }) {
  await button(page, '删除').click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('请输入').fill(host)
  await button(dialog, '删除').click()
  await page.getByRole('heading', { name: 'Webhook', exact: true }).waitFor()
  await page.getByText(host).waitFor({ state: 'detached' })
}

/** As a receiver proves it, by Standard Webhooks. */
function isOurs({ id, at, signature, body }, secret) {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64')
  const made = createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64')
  return signature.split(' ').includes(`v1,${made}`)
}
