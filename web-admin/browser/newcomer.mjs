/**
 * From nothing to a colleague: a company registers, is approved, and does what its checklist says, until
 * a visitor of its own site is answered and somebody else has joined. No call of the API helps along.
 */

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { inBrowser, say, signIn } from './browser.mjs'
import { decide } from './platform.mjs'

const QUESTION = '有没有《红楼梦》？'
const ANSWER = '有，二楼古典文学区。'
const PASSWORD = `long ${randomUUID()}`

export async function newcomer(there) {
  const company = `书店 ${randomUUID().slice(0, 8)}`
  const email = `${randomUUID()}@books.example`
  await inBrowser({}, async (page) => {
    await register(page, there, company, email)
    await signIn(page, there.address, { email, password: PASSWORD })
    await page.waitForSelector('.banner:has-text("尚未开通")')
    await inBrowser({}, (operator) => approve(operator, there, company))
    await page.goto(there.address('/app/overview'))
    await firstBot(page)
    const tag = await channel(page)
    await withSite(tag, async (site) => {
      await inBrowser({}, async (visitor) => {
        const chat = await open(visitor, site)
        await say(chat, '你好')
        await chat.waitForSelector('.row.bot')
      })
      await isDone(page, '收到第一条消息')
      // It has only said that somebody else will answer.
      assert.equal(await step(page, '机器人回答了').locator('text=已完成').count(), 0)
      await answers(page)
      await inBrowser({}, async (visitor) => {
        const chat = await open(visitor, site)
        await say(chat, QUESTION)
        await chat.waitForSelector(`.row.bot:has-text("${ANSWER}")`)
      })
    })
    await isDone(page, '机器人回答了')
    await inBrowser({}, (colleague) => invite(page, colleague, there))
    // All is done, and the list with it.
    await page.goto(there.address('/app/overview'))
    await page.waitForSelector('article')
    await step(page, '邀请同事').waitFor({ state: 'detached' })
  })
}

async function register(page, { address }, company, email) {
  await page.goto(address('/app/sign-in'))
  await page.getByRole('link', { name: '注册企业' }).click()
  await page.getByRole('heading', { name: '注册企业' }).waitFor()
  await page.fill('[name=company]', company)
  await page.fill('[name=email]', email)
  await page.fill('[name=password]', PASSWORD)
  await page.getByRole('button', { name: '提交申请' }).click()
  await page.waitForSelector('text=申请已提交')
}

async function approve(operator, there, company) {
  await signIn(operator, there.address, there.firstRun.operator)
  await operator.goto(there.address('/app/ops/tenants'))
  const row = operator.locator('tr', { hasText: company })
  await decide(operator, row, '通过')
  await row.getByText('正常').waitFor()
}

const step = (page, name) => page.locator('.list li', { hasText: name })

/** Goes where the checklist says. */
const follow = (page, name) => step(page, name).getByRole('link').click()

/** The list says so by itself, wherever one has been meanwhile. */
async function isDone(page, name) {
  await page.click('nav a[href="/app/overview"]')
  await step(page, name).locator('text=已完成').waitFor()
}

async function firstBot(page) {
  await page.getByText('还没有实例').waitFor()
  await page.getByRole('button', { name: '新建实例' }).click()
  await page.getByRole('dialog').getByLabel('名称').fill('小书')
  await page.getByRole('dialog').getByRole('button', { name: '新建实例' }).click()
  await page.locator('article', { hasText: '小书' }).waitFor()
}

/** The tag to put into one's own site. */
async function channel(page) {
  await follow(page, '接入一个渠道')
  await page.getByRole('button', { name: '添加渠道' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('类型').selectOption('webchat')
  await dialog.getByLabel('名称 *').fill('网站')
  await dialog.getByRole('button', { name: '保存' }).click()
  const tag = page.locator('article', { hasText: '网站' }).locator('code', { hasText: '<script' })
  await tag.waitFor()
  const text = await tag.innerText()
  await isDone(page, '接入一个渠道')
  return text
}

/** Somebody's own site, with the tag in it. */
async function withSite(tag, walk) {
  const site = createServer((_, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' })
    response.end(`<!doctype html><html lang="zh"><title>书店</title><h1>书店</h1>${tag}</html>`)
  })
  site.listen(0, '127.0.0.1')
  await once(site, 'listening')
  try {
    return await walk(`http://127.0.0.1:${site.address().port}/`)
  } finally {
    site.closeAllConnections()
    site.close()
  }
}

/** The chat in its frame on the site. */
async function open(visitor, site) {
  await visitor.goto(site)
  await visitor.click('button')
  const frame = await (await visitor.waitForSelector('iframe')).contentFrame()
  assert.ok(frame !== null, 'the chat is no frame')
  await frame.waitForSelector('textarea')
  return frame
}

async function answers(page) {
  await follow(page, '机器人回答了')
  await page.getByRole('button', { name: '添加问答' }).click()
  await page.getByLabel('问题').last().fill(QUESTION)
  await page.getByLabel('答案').last().fill(ANSWER)
  await page.getByRole('button', { name: '保存', exact: true }).click()
  await page.getByText('已保存').waitFor()
}

async function invite(page, colleague, { address }) {
  const email = `${randomUUID()}@books.example`
  await follow(page, '邀请同事')
  await page.getByRole('button', { name: '邀请成员' }).click()
  await page.getByRole('dialog').getByLabel('邮箱').fill(email)
  await page.getByRole('dialog').getByRole('button', { name: '邀请成员' }).click()
  const link = await page.getByRole('dialog').locator('code', { hasText: 'http' }).innerText()
  await colleague.goto(link)
  await colleague.fill('[name=name]', '小王')
  await colleague.fill('[name=password]', PASSWORD)
  await colleague.getByRole('button', { name: '加入' }).click()
  await colleague.waitForSelector('text=您已加入')
  await signIn(colleague, address, { email, password: PASSWORD })
  await colleague.goto(address('/app/inbox'))
  await colleague.waitForSelector('.list .row')
  await page.locator('tr', { hasText: '小王' }).waitFor()
}
