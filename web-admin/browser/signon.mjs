/** An owner sets the company's own sign-in up; a colleague joins by it, and is out once it ends. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { inBrowser, signIn } from './browser.mjs'

const PROVIDER = join(import.meta.dirname, '../../tests/oidc_provider')
const DOMAIN = 'tea.example'

export async function signOn(there) {
  await withProvider(async (issuer) => {
    await inBrowser({}, async (owner) => {
      await signIn(owner, there.address, there.firstRun.demo)
      const link = await setUp(owner, there, issuer)
      await inBrowser({}, async (colleague) => {
        const email = `${randomUUID()}@${DOMAIN}`
        await enter(colleague, link, email)
        await owner.goto(there.address('/app/team'))
        assert.equal(await owner.locator('tr', { hasText: email }).getByRole('combobox').inputValue(), 'member')
        await end(owner, there, issuer)
        await colleague.goto(there.address('/app/account'))
        await colleague.waitForSelector('[name=password]')
      })
    })
  })
}

/** A certified OpenID provider; says its address on its first line. */
async function withProvider(walk) {
  const provider = spawn(process.execPath, ['server.mjs'], { cwd: PROVIDER, stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    for await (const issuer of createInterface({ input: provider.stdout })) return await walk(issuer)
    assert.fail('the provider did not start')
  } finally {
    provider.kill()
  }
}

async function setUp(page, { address }, issuer) {
  await page.goto(address('/app/sign-on'))
  const redirect = await page.locator('code', { hasText: '/auth/sign-on/callback/' }).innerText()
  const registered = await fetch(`${issuer}/reg`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ redirect_uris: [redirect] }),
  })
  const client = await registered.json()
  await page.getByLabel('Issuer（签发者地址）').fill(issuer)
  await page.getByRole('button', { name: '检查' }).click()
  await page.getByText('可以使用').waitFor()
  await page.getByLabel('Client ID').fill(client.client_id)
  await page.getByLabel('Client secret（密钥）').fill(client.client_secret)
  await page.getByLabel('允许的邮箱域名').fill(DOMAIN)
  await page.getByLabel('第一次登录的人').selectOption('member')
  await page.getByRole('button', { name: '保存' }).click()
  await page.getByText('已启用', { exact: true }).waitFor()
  assert.ok(!(await page.content()).includes(client.client_secret), 'a secret was shown')
  return page.locator('code a').getAttribute('href')
}

/** By the link that the company hands on: its provider asks who it is. */
async function enter(page, link, email) {
  await page.goto(link)
  await page.getByRole('button', { name: '企业登录' }).click()
  await page.fill('[name=login]', email)
  await page.fill('[name=password]', 'any')
  await page.click('[type=submit]')
  await page.waitForSelector('[name=prompt][value=consent]', { state: 'attached' })
  await page.click('[type=submit]')
  await page.waitForSelector('nav')
  await page.click('.email')
  await page.getByText('您通过企业的身份服务登录').waitFor()
}

async function end(page, { address }, issuer) {
  await page.goto(address('/app/sign-on'))
  await page.getByRole('button', { name: '停用企业登录' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('请输入').fill(new URL(issuer).host)
  await dialog.getByRole('button', { name: '停用企业登录' }).click()
  await page.getByText('未启用', { exact: true }).waitFor()
}
