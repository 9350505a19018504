/**
 * A model beside the people: without one nothing but that is said. Its words are seen as it says them,
 * then they are the message, and what it did can be looked up; two members see each other look; what it
 * suggests is taken, changed and sent; where it fails the page says so and goes on.
 */

import assert from 'node:assert/strict'
import { inBrowser, moment, signIn, visit } from './browser.mjs'
import { withModel } from './model.mjs'
import { callerFor, colleagueOf, modelOf } from './people.mjs'

const QUESTION = '能帮我修一下自行车吗？'
const BEGUN = '可以的，'
const MORE = '请您'
const REST = '周六上午带车过来。'
const SUGGESTED = ['周六九点见。', '请先告诉我们车型。']
const ADDED = '我在店里等您。'
const SUMMARY = '客户想修自行车，已约周六上午。'

export async function assist(there) {
  const demo = there.firstRun.demo
  const colleague = await colleagueOf(there, demo)
  const call = await callerFor(there, demo)
  await modelOf(there, demo, null)
  await withModel(async (model) => {
    await inBrowser({}, async (visitor) => {
      await visit(visitor, there, '你们几点开门？')
      await visitor.waitForSelector('.row.bot')
      const { id } = (await call('GET', '/conversations?limit=1')).items[0]
      await inBrowser({}, async (member) => {
        await signIn(member, there.address, demo)
        await member.goto(there.address(`/app/inbox/all/${id}`))
        await withoutModel(member)
        await modelOf(there, demo, model)
        await inBrowser({}, async (other) => {
          await signIn(other, there.address, colleague)
          await lookTogether(there, { id, member, other, colleague })
        })
        await talk(visitor, member, model)
        await trace(member)
        await member.keyboard.press('t')
        await member.waitForSelector('.composer textarea')
        await suggestion(visitor, member, model)
        await summary(member, model)
        await failure(visitor, member, model)
      })
    })
  })
}

const press = (member, name) => member.click(`.assist .ways button:has-text("${name}")`)

async function withoutModel(member) {
  await member.waitForSelector('.thread .message.bot')
  await press(member, '会话摘要')
  await member.waitForSelector('.made:has-text("尚未配置模型")')
  await moment(member, 'assist-none')
  await member.click('.made button')
  await member.waitForSelector('.made', { state: 'detached' })
  // A reply is suggested to who can send one.
  assert.equal(await member.locator('.assist .ways button:has-text("推荐回复")').count(), 0)
}

async function lookTogether(there, { id, member, other, colleague }) {
  await other.goto(there.address(`/app/inbox/all/${id}`))
  await member.waitForSelector(`.bar:has-text("${colleague.name} 也在查看")`)
  await other.waitForSelector('.bar:has-text("也在查看")')
  await moment(member, 'assist-viewing')
  await other.keyboard.press('1')
  await member.waitForFunction(() => !document.querySelector('.bar')?.textContent?.includes('也在查看'))
}

/** Nobody outside hears a word before the answer is whole. */
async function talk(visitor, member, model) {
  const before = await visitor.locator('.row.bot').count()
  await visitor.fill('textarea', QUESTION)
  await visitor.press('textarea', 'Enter')
  const question = await model.asked()
  await member.waitForSelector(`.message.theirs:has-text("${QUESTION}")`)
  await member.waitForSelector('.live:has-text("正在回答")')
  question.say(BEGUN)
  await member.waitForSelector(`.growing:text-is("${BEGUN}")`)
  question.say(MORE)
  await member.waitForSelector(`.growing:text-is("${BEGUN}${MORE}")`)
  await moment(member, 'assist-words')
  assert.equal(await visitor.locator('.row.bot').count(), before)
  question.end(REST)
  await visitor.waitForSelector(`.row.bot:has-text("${BEGUN}${MORE}${REST}")`)
  await member.waitForSelector(`.message.bot:has(.mark):has-text("${BEGUN}${MORE}${REST}")`)
  await member.waitForSelector('.growing', { state: 'detached' })
}

async function trace(member) {
  await member.locator('.message.bot').last().locator('button:has-text("依据")').click()
  await member.waitForSelector('.turns li.about:has-text("已回答"):has-text("输入 9 · 输出 9 tokens")')
  await moment(member, 'assist-trace')
  await member.keyboard.press('Escape')
  await member.waitForSelector('.turns', { state: 'hidden' })
}

async function suggestion(visitor, member, model) {
  await press(member, '推荐回复')
  const question = await model.asked()
  await member.waitForSelector('.assist button.is-loading')
  question.end(JSON.stringify(SUGGESTED))
  await member.waitForSelector(`.suggestion:has-text("${SUGGESTED[1]}")`)
  await moment(member, 'assist-suggestions')
  await member.click(`.suggestion:has-text("${SUGGESTED[0]}")`)
  await member.waitForFunction((text) => document.activeElement?.value === text, SUGGESTED[0])
  await member.keyboard.type(ADDED)
  await member.keyboard.press('Enter')
  await visitor.waitForSelector(`text=${SUGGESTED[0]}${ADDED}`)
}

async function summary(member, model) {
  await press(member, '会话摘要')
  const question = await model.asked()
  question.end(SUMMARY)
  await member.waitForSelector(`.made:has-text("${SUMMARY}")`)
  await moment(member, 'assist-summary')
  await member.click('.made button[aria-label]')
  await member.waitForSelector('.made', { state: 'detached' })
}

async function failure(visitor, member, model) {
  await press(member, '推荐回复')
  const question = await model.asked()
  question.fail()
  await member.waitForSelector('.made.bad:has-text("模型没有给出回答")')
  await moment(member, 'assist-failed')
  await member.fill('.composer textarea', '周六见！')
  await member.press('.composer textarea', 'Enter')
  await visitor.waitForSelector('text=周六见！')
}
