/** An operator at work: finds a bot, restarts and suspends it, brings a release out and takes it back, looks at queues. */

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { inBrowser, signIn } from './browser.mjs'

export async function ops(there) {
  await inBrowser({}, async (page) => {
    await signIn(page, there.address, there.firstRun.operator)
    const bot = await find(page, there)
    await steer(page)
    await rollout(page, there)
    await queues(page, there)
    await support(page, there)
    // What others find is as it was.
    await page.goto(bot)
    await head(page).getByText('运行中', { exact: true }).waitFor()
  })
}

const button = (part, name) => part.getByRole('button', { name, exact: true })
const head = (page) => page.locator('header.page-head').first()

async function confirm(page, name, { words, typed } = {}) {
  const dialog = page.getByRole('dialog')
  if (words) await dialog.locator('textarea').fill(words)
  if (typed) {
    assert.ok(await button(dialog, name).isDisabled(), `${name} without typing ${typed}`)
    await dialog.getByLabel('请输入').fill(typed)
  }
  await button(dialog, name).click()
  await dialog.waitFor({ state: 'hidden' })
}

/** The filter is in the address, and the server's; gives the bot's address. */
async function find(page, { address }) {
  await page.goto(address('/app/ops/fleet'))
  await page.getByLabel('实例或租户名称').fill(`nobody ${randomUUID()}`)
  await page.keyboard.press('Enter')
  await page.getByText('没有符合条件的实例').waitFor()
  await button(page, '清除筛选').click()
  await page.locator('tbody a').first().waitFor()
  await page.getByLabel('状态', { exact: true }).selectOption('running')
  await page.waitForURL(/phase=running/)
  const link = page.locator('tbody tr', { hasText: '运行中' }).first().locator('a').first()
  const path = await link.getAttribute('href')
  await link.click()
  await page.getByRole('heading', { name: '条件' }).waitFor()
  return address(path)
}

async function steer(page) {
  const generation = () => page.getByText(/代 实际/).innerText()
  const before = await generation()
  await button(page, '重启').click()
  await confirm(page, '重启')
  await page.locator('tr', { hasText: '要求重启' }).first().waitFor()
  // By itself: nobody asked the page to look again.
  await page.waitForFunction((text) => !document.body.innerText.includes(text), before)
  await head(page).getByText('运行中', { exact: true }).waitFor()

  await button(page, '暂停').click()
  await confirm(page, '暂停', { words: '发送垃圾信息' })
  await page.getByText('已被平台暂停：发送垃圾信息').waitFor()
  await head(page).getByText('已停止', { exact: true }).waitFor()
  await button(page, '恢复').click()
  await confirm(page, '恢复')
  await head(page).getByText('运行中', { exact: true }).waitFor()
}

async function rollout(page, { address }) {
  await page.goto(address('/app/ops/rollouts'))
  const note = `场景 ${randomUUID().slice(0, 8)}`
  await button(page, '新建版本').click()
  await page.getByLabel('日志级别').selectOption('info')
  await page.getByLabel('说明').fill(note)
  await confirm(page, '新建版本')
  const release = page.locator('tr', { hasText: note })
  const number = (await release.locator('strong').innerText()).slice(1)
  await button(release, '开始发布').click()
  // Watched for longer than the scene lasts: it ends only when somebody says so.
  await page.getByLabel('观察时间（秒）').fill('3600')
  await confirm(page, '开始发布')
  const card = page.locator('article', { hasText: `版本 ${number}` }).first()
  const state = (word) => card.locator('header').getByText(word, { exact: true }).waitFor()
  await state('进行中')
  await button(card, '暂停').click()
  await confirm(page, '暂停')
  await state('已暂停')
  await button(card, '继续').click()
  await confirm(page, '继续')
  await state('进行中')
  const name = await card.getByRole('heading').innerText()
  await button(card, '终止并回退').click()
  await confirm(page, '终止并回退', { typed: /#\d+/.exec(name)[0] })
  await state('已回退')
  await card.getByText('已停止：运营人员要求').waitFor()
}

async function queues(page, { address }) {
  await page.goto(address('/app/ops/queues'))
  await page.locator('tr', { hasText: '实例检查' }).getByText(/正常|偏慢|失败重试|停滞/).waitFor()
  await page.locator('tr', { hasText: '待发送消息' }).waitFor()
  await page.getByRole('heading', { name: '死信' }).waitFor()
}

async function support(page, { address }) {
  const reason = `工单 ${randomUUID().slice(0, 8)}`
  await page.goto(address('/app/ops/tenants'))
  await button(page.locator('tr', { hasText: '正常' }).first(), '支持访问').click()
  await page.getByLabel('原因（租户可见）').fill(reason)
  await confirm(page, '支持访问')
  const look = page.locator('tr', { hasText: reason })
  await look.getByText('有效').waitFor()
  await button(look, '结束').click()
  await confirm(page, '结束')
  await look.getByText('已结束').waitFor()
}
