/** A member sets a bot up: a channel by its form, a version back and forth, a colleague, a key. */

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { inBrowser, signIn } from './browser.mjs'
import { callerFor } from './people.mjs'

const SECRET = 'never-shown-again'

export async function consoleWalk(there) {
  await inBrowser({}, async (page) => {
    await signIn(page, there.address, there.firstRun.demo)
    await page.goto(there.address('/app/overview'))
    await page.click('article h2 a')
    await page.waitForSelector('.steps .done')
    await channel(page)
    await versions(page)
    await rejection(page, there)
    await invitation(page, there)
    await key(page, there)
  })
}

const button = (page, name) => page.getByRole('button', { name, exact: true })

async function channel(page) {
  await page.getByRole('link', { name: '渠道', exact: true }).click()
  await page.waitForSelector('article')
  await button(page, '添加渠道').click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('类型').selectOption('qq')
  await dialog.getByLabel('名称 *').fill('售后 QQ')
  assert.ok(await dialog.getByRole('button', { name: '保存' }).isDisabled(), 'saved without what is necessary')
  await dialog.getByLabel('App ID *').fill('not-a-number')
  await dialog.getByLabel('Secret（密钥） *').fill(SECRET)
  await dialog.getByRole('button', { name: '保存' }).click()
  // What the server says is wrong stands at its field.
  await dialog.locator('.field [role=alert]').first().waitFor()
  await dialog.getByLabel('App ID *').fill('102030')
  await dialog.getByRole('button', { name: '保存' }).click()
  const card = page.locator('article', { hasText: '售后 QQ' })
  await card.getByRole('button', { name: '试一试' }).click()
  await page.getByRole('dialog').getByText('botyard simulate qq').waitFor()
  await page.keyboard.press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
  await card.getByRole('button', { name: '修改' }).click()
  assert.equal(await page.getByRole('dialog').getByLabel('Secret（密钥） *').inputValue(), '')
  assert.ok(!(await page.content()).includes(SECRET), 'a secret was shown')
  await page.keyboard.press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
  await card.getByRole('button', { name: '删除' }).click()
  const asked = page.getByRole('dialog')
  assert.ok(await asked.getByRole('button', { name: '删除' }).isDisabled(), 'deleted without its name')
  await asked.getByLabel('请输入').fill('售后 QQ')
  await asked.getByRole('button', { name: '删除' }).click()
  await card.waitFor({ state: 'detached' })
}

async function versions(page) {
  const [former, latter] = [`小花 ${randomUUID()}`, `小草 ${randomUUID()}`].map((name) => name.slice(0, 12))
  const first = await publish(page, former)
  const second = await publish(page, latter)
  assert.equal(second, first + 1)
  await button(page.locator('tr', { hasText: `#${second}` }), '对比').click()
  await page.getByRole('dialog').locator('.after', { hasText: latter }).waitFor()
  await page.keyboard.press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
  await button(page.locator('tr', { hasText: `#${first}` }), '回滚').click()
  await button(page.getByRole('dialog'), '回滚').click()
  // By itself: the agent says what it runs.
  await page.locator('tr', { hasText: `回滚到 #${first}` }).getByText('运行中').waitFor()
}

/** What the bot's process cannot keep is refused by it, with where and why; a way back ends that. */
async function rejection(page, there) {
  const bot = new URL(page.url()).pathname.split('/').at(-2)
  const document = { limits: { spool_max_bytes: 10 ** 18 } }
  const call = await callerFor(there, there.firstRun.demo)
  const { number } = await call('POST', `/instances/${bot}/revisions`, { document, note: '更多空间' })
  await page.reload()
  const good = Number((await page.locator('tr', { hasText: '运行中' }).locator('strong').innerText()).slice(1))
  await button(page.locator('tr', { hasText: `#${number}` }), '发布').click()
  await button(page.getByRole('dialog'), '发布').click()
  const note = page.locator('.problem', { hasText: `版本 #${number} 被拒绝，机器人仍在使用 #${good}` })
  const where = note.locator('li', { hasText: '/limits/spool_max_bytes' })
  await where.waitFor()
  const why = (await where.innerText()).replace('/limits/spool_max_bytes', '').trim()
  assert.ok(why.length > 10, `rejected without a reason: ${why}`)
  await page.locator('tr', { hasText: `#${number}` }).getByText('被拒绝').waitFor()
  await page.locator('tr', { hasText: `#${good}` }).getByText('运行中').waitFor()
  await button(page.locator('tr', { hasText: `#${good}` }), '回滚').click()
  await button(page.getByRole('dialog'), '回滚').click()
  await page.locator('tr', { hasText: `回滚到 #${good}` }).first().getByText('运行中').waitFor()
  await note.waitFor({ state: 'detached' })
}

/** Publishes a name for the bot; gives the version's number. */
async function publish(page, name) {
  await page.getByRole('link', { name: '人设与模型' }).click()
  await page.getByLabel('名字').fill(name)
  await button(page, '保存并发布').click()
  const row = page.locator('tr', { hasText: '已发布' })
  await row.getByText('运行中').waitFor()
  return Number((await row.locator('strong').innerText()).slice(1))
}

async function invitation(page, { address }) {
  await page.goto(address('/app/team'))
  await button(page, '邀请成员').click()
  await page.getByRole('dialog').getByLabel('邮箱').fill('colleague@shop.example')
  await page.getByRole('dialog').getByRole('button', { name: '邀请成员' }).click()
  await page.getByRole('dialog').locator('code', { hasText: 'http' }).waitFor()
  await page.getByRole('dialog').getByRole('button', { name: '关闭' }).last().click()
  const row = page.locator('tr', { hasText: 'colleague@shop.example' })
  await row.waitFor()
  await button(row, '撤回').click()
  await row.waitFor({ state: 'detached' })
}

async function key(page, { address }) {
  const name = `仓库系统 ${randomUUID()}`
  await page.goto(address('/app/api-keys'))
  await button(page, '新建密钥').click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('名称').fill(name)
  await dialog.getByLabel('查看会话').check()
  await dialog.getByRole('button', { name: '新建密钥' }).click()
  const shown = await dialog.locator('code').first().innerText()
  await dialog.getByRole('button', { name: '关闭' }).last().click()
  const row = page.locator('tr', { hasText: name })
  await row.waitFor()
  assert.ok(!(await page.content()).includes(shown), 'a key was shown twice')
  await button(row, '撤销').click()
  await button(page.getByRole('dialog'), '撤销').click()
  await row.getByText('已撤销').waitFor()
}
