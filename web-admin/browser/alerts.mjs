/**
 * Who looks elsewhere is told that a customer of theirs has written, with a sound; nothing asks for the
 * browser's leave before they say yes, and nothing is told once they switch it off.
 */

import assert from 'node:assert/strict'
import { inBrowser, moment, say, signIn, visit } from './browser.mjs'

const SECRET = '我的手机号是多少？'

export async function alerts(there) {
  await inBrowser({}, async (member) => {
    await member.addInitScript(record)
    await signIn(member, there.address, there.firstRun.demo)
    await inBrowser({}, async (visitor) => {
      await visit(visitor, there, '你们几点开门？')
      await visitor.waitForSelector('.row.bot')
      await member.goto(there.address('/app/inbox'))
      await takeOver(member)
      assert.equal(await asked(member), 0, 'asked by itself')
      await moment(member, 'alerts-question')
      await member.click('.question button:has-text("好的")')
      await member.waitForSelector('.question', { state: 'detached' })
      await member.waitForFunction(() => window.alertsOf.asked === 1)
      await member.waitForSelector('.alerts input:checked')
      await away(member, visitor)
      await switchedOff(member, visitor)
      await blocked(member)
    })
  })
}

async function takeOver(member) {
  await member.waitForSelector('.list .row')
  await member.keyboard.press('j')
  await member.waitForSelector('.thread .message.bot')
  await member.keyboard.press('t')
  await member.waitForSelector('.composer textarea')
}

/** On another page of the dashboard, in a tab that nobody looks at. */
async function away(member, visitor) {
  const thread = new URL(member.url()).pathname.split('/').at(-1)
  await member.click('nav a[href$="/contacts"]')
  await member.waitForSelector('.thread', { state: 'detached' })
  await member.evaluate(() => window.alertsOf.hide(true))
  await say(visitor, SECRET)
  await member.waitForFunction(() => window.alertsOf.shown.length === 1)
  await member.waitForFunction(() => window.alertsOf.tones > 0)
  const shown = await member.evaluate(() => window.alertsOf.shown.map(({ title, body }) => `${title} ${body}`).join())
  assert.equal(shown, '您的客户发来了新消息 Botyard')
  await member.evaluate(() => {
    window.alertsOf.hide(false)
    window.alertsOf.shown[0].onclick()
  })
  await member.waitForURL((url) => url.pathname.endsWith(thread))
  await member.waitForSelector(`.message.theirs:has-text("${SECRET}")`)
}

async function switchedOff(member, visitor) {
  await member.click('.alerts input')
  await member.waitForSelector('.alerts input:not(:checked)')
  const tones = await member.evaluate(() => window.alertsOf.tones)
  await member.evaluate(() => window.alertsOf.hide(true))
  await say(visitor, '还在吗？')
  await member.waitForSelector('.message.theirs:has-text("还在吗？")')
  assert.deepEqual(await member.evaluate(() => [window.alertsOf.shown.length, window.alertsOf.tones]), [1, tones])
}

/** Who says yes to us, and whose browser says no, is told that there is only the sound. */
async function blocked(member) {
  assert.equal(await member.isVisible('.alerts + .blocked'), false, 'said where nothing is blocked')
  await member.evaluate(() => {
    window.Notification.permission = 'denied'
  })
  await member.click('.alerts input')
  await member.waitForSelector('.alerts + .blocked:has-text("浏览器已阻止通知")')
  await moment(member, 'alerts-blocked')
}

const asked = (member) => member.evaluate(() => window.alertsOf.asked)

/** In the page: notes what it asks the browser for, shows and sounds, and lets it be looked away from. */
function record() {
  const seen = { asked: 0, shown: [], tones: 0, isHidden: false }
  function Recorded(title, { body }) {
    Object.assign(this, { title, body, close: () => undefined })
    seen.shown.push(this)
  }
  Recorded.permission = 'default'
  Recorded.requestPermission = () => {
    seen.asked += 1
    Recorded.permission = 'granted'
    return Promise.resolve('granted')
  }
  const { start } = OscillatorNode.prototype
  OscillatorNode.prototype.start = function (when) {
    seen.tones += 1
    return start.call(this, when)
  }
  Object.defineProperty(document, 'visibilityState', { get: () => (seen.isHidden ? 'hidden' : 'visible') })
  document.hasFocus = () => !seen.isHidden
  seen.hide = (isHidden) => {
    seen.isHidden = isHidden
    document.dispatchEvent(new Event('visibilitychange'))
  }
  window.Notification = Recorded
  window.alertsOf = seen
}
