/** A member gives a bot a model, a name, a task and a rule; all of it holds for the next question. */

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { inBrowser, say, signIn, visit } from './browser.mjs'
import { withModel } from './model.mjs'
import { approve, chatOf, companyOf } from './people.mjs'

const KNOWN = '你们几点开门？'
/** Near enough to it, until only the very words will do. */
const QUESTION = '明天你们几点开门？'
const LISTED = '我们每天九点开门。'
const TASK = '你是花店的店员，只谈花。'
const ANSWER = '九点，带上您的雨伞。'

export async function behaviour(there) {
  const name = `小花 ${randomUUID().slice(0, 6)}`
  const { admin } = await companyOf(there)
  await approve(there, admin)
  const url = await chatOf(there, admin, [{ question: KNOWN, answer: LISTED }])
  await withModel((model) =>
    inBrowser({}, (visitor) =>
      inBrowser({}, async (page) => {
        await visit(visitor, there, QUESTION, url)
        await visitor.waitForSelector(`.row.bot:has-text("${LISTED}")`)
        await signIn(page, there.address, admin)
        const account = await provider(page, there, model)
        await publish(page, there, { name, account })
        await say(visitor, QUESTION)
        const question = await model.asked()
        assert.equal(question.model, 'florist-1')
        assert.ok(question.messages.some(({ role, content }) => role === 'system' && content.includes(TASK)), 'without its task')
        question.end(ANSWER)
        await visitor.waitForSelector(`.row.bot:has-text("${name}"):has-text("${ANSWER}")`)
      }),
    ),
  )
}

/** Gives what it is called. */
async function provider(page, { address }, { url }) {
  const account = `M ${randomUUID().slice(0, 6)}`
  await page.goto(address('/app/providers'))
  await page.getByRole('button', { name: '添加模型服务' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('名称').fill(account)
  await dialog.getByLabel('接口地址').fill(url)
  await dialog.getByLabel('API 密钥').fill('sk-of-a-scene')
  await dialog.getByRole('button', { name: '保存' }).click()
  await page.locator('tr', { hasText: account }).waitFor()
  return account
}

async function publish(page, { address }, { name, account }) {
  await page.goto(address('/app/overview'))
  await page.click('article h2 a')
  await page.getByRole('link', { name: '人设与模型' }).click()
  await page.getByLabel('名字').fill(name)
  await page.getByLabel('指令').fill(TASK)
  await page.getByLabel('问答相似度').fill('1')
  await page.getByRole('button', { name: '添加模型' }).click()
  await page.getByLabel('模型服务 1').selectOption(account)
  await page.getByLabel('模型名称 1').fill('florist-1')
  await page.getByRole('button', { name: '保存并发布' }).click()
  await page.locator('tr', { hasText: '已发布' }).getByText('运行中').waitFor()
}
