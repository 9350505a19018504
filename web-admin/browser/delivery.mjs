/**
 * A platform that says no, then one that says nothing: a member sees why, has it sent again or decides,
 * and it stands there who did. A reply that did not reach us is marked in the list until it has.
 */

import assert from 'node:assert/strict'
import { inBrowser, moment, signIn } from './browser.mjs'
import { until, wecomOf } from './people.mjs'

const REFUSED = '九点开门。'
const KNOWN = '周日也开。'
const DOUBTED = '欢迎光临。'
const HELD = '门口可以停车。'

/** `settings`: of the stand-in's account. */
export async function delivery(there, settings) {
  const demo = there.firstRun.demo
  const wecom = await wecomOf(there, demo, settings)
  await wecom.say('你们几点开门？')
  await inBrowser({}, async (member) => {
    await signIn(member, there.address, demo)
    await member.goto(there.address('/app/inbox/all'))
    await member.click('.list .row:has-text("企业微信")')
    await member.waitForSelector('.message.bot .mark:has-text("已送达平台")')
    await member.keyboard.press('t')
    await member.waitForSelector('.composer textarea')
    await refused(member, wecom)
    await doubted(member, wecom, KNOWN, '客户已收到')
    assert.equal(await wecom.timesShown(KNOWN), 1)
    await doubted(member, wecom, DOUBTED, '再次发送')
    // As the page had said that it may.
    assert.equal(await wecom.timesShown(DOUBTED), 2)
    await held(member, wecom)
  })
}

const message = (text) => `.message.human:has(.bubble .text:text-is("${text}"))`

async function send(member, text) {
  await member.fill('.composer textarea', text)
  await member.press('.composer textarea', 'Enter')
}

/** The platform does not know our address: final, until somebody enters it there. */
async function refused(member, wecom) {
  await wecom.hit({ refused_address: '203.0.113.7' })
  await send(member, REFUSED)
  const mark = `${message(REFUSED)} .mark`
  await member.waitForSelector(`${mark}.bad:has-text("发送失败")`)
  await moment(member, 'delivery-failed')
  await member.click(mark)
  await member.waitForSelector('.delivery li:has-text("第 1 次"):has-text("203.0.113.7")')
  await moment(member, 'delivery-failed-why')
  assert.equal(await wecom.timesShown(REFUSED), 0)
  await wecom.hit({ refused_address: '' })
  await member.click('.el-dialog button:has-text("再次发送")')
  await member.waitForSelector('.delivery li:has-text("第 2 次"):has-text("已送达平台")')
  await member.waitForSelector('.delivery .decided:has-text("我的决定：再次发送")')
  await moment(member, 'delivery-resent')
  await close(member)
  await member.waitForSelector(`${mark}:has-text("已送达平台")`)
  assert.equal(await wecom.timesShown(REFUSED), 1)
}

/** The answer is lost: nobody knows whether the customer got it. */
async function doubted(member, wecom, text, decision) {
  await wecom.hit({ drop_reply: 1 })
  await send(member, text)
  const mark = `${message(text)} .mark`
  await member.waitForSelector(`${mark}.warning:has-text("结果未知")`)
  await moment(member, 'delivery-unconfirmed')
  await member.click(mark)
  await member.waitForSelector('.delivery:has-text("再次发送可能使客户收到两遍")')
  await moment(member, 'delivery-unconfirmed-ask')
  await member.click(`.el-dialog button:has-text("${decision}")`)
  await member.waitForSelector(`.delivery .decided:has-text("我的决定：${decision}")`)
  await member.waitForSelector('.delivery p:first-child:has-text("已送达平台")')
  await moment(member, 'delivery-decided')
  await close(member)
  await member.waitForSelector(`${mark}:has-text("已送达平台")`)
}

async function held(member, wecom) {
  const path = /\/conversations\/[^/]+\/messages$/
  const refuse = (route) => (route.request().method() === 'POST' ? route.abort() : route.continue())
  await member.route(path, refuse)
  await send(member, HELD)
  await member.waitForSelector('.failed')
  await member.waitForSelector('.list .row.selected .badge.bad')
  await moment(member, 'delivery-held')
  await member.unroute(path, refuse)
  await member.click('.failed button:has-text("重试")')
  await member.waitForSelector(`${message(HELD)} .mark:has-text("已送达平台")`)
  await member.waitForSelector('.badge.bad', { state: 'detached' })
  await until(async () => (await wecom.timesShown(HELD)) === 1)
}

async function close(member) {
  await member.keyboard.press('Escape')
  await member.waitForSelector('.delivery', { state: 'hidden' })
}
