import { inBrowser, signIn, visit, place, DESKTOP } from './browser/browser.mjs'
const there = place('http://127.0.0.1:18945', '/tmp/desk-data/first-run.json')
const S='/tmp/desk-shots/'
async function token(){ const r=await fetch(there.address('/api/v1/auth/login'),{method:'POST',headers:{'content-type':'application/json'},body:JSON.stringify({email:there.firstRun.demo.email,password:there.firstRun.demo.password})}); return (await r.json()).access_token }
const t=await token()
const cur=await (await fetch(there.address('/api/v1/routing/settings'),{headers:{authorization:`Bearer ${t}`}})).json()
const r=await fetch(there.address('/api/v1/routing/settings'),{method:'PUT',headers:{authorization:`Bearer ${t}`,'content-type':'application/json'},body:JSON.stringify({enabled:true,version:cur.version,rating:{question:'请问您对这次服务满意吗？（1 到 5）',thanks:'感谢您的评价！'}})})
console.log('routing', r.status)
async function shoot(page,name){ for (const c of ['light','dark']) { await page.emulateMedia({colorScheme:c}); await page.screenshot({path:`${S}${name}-${c}.png`,animations:'disabled'}) } }
await inBrowser({}, async (member) => {
  member.on('console', m=>{ if(m.type()==='error') console.log('member:',m.text())}); member.on('pageerror',e=>console.log('member pageerror',e.message))
  await signIn(member, there.address, there.firstRun.demo)
  await member.goto(there.address('/app/inbox'))
  await inBrowser({viewport:{width:390,height:780}}, async (visitor) => {
    visitor.on('pageerror',e=>console.log('visitor pageerror',e.message))
    await visit(visitor, there, '我的订单 A12345 在哪里？')
    await visitor.waitForSelector('.row.bot')
    await member.waitForSelector('.list .row'); await member.keyboard.press('j')
    await member.waitForSelector('.thread .message.bot')
    await member.keyboard.press('t'); await member.waitForSelector('.composer textarea')
    await member.keyboard.press('r')
    await member.keyboard.type('您好，')
    await member.keyboard.press('Control+e')
    await member.waitForSelector('.emoji input')
    await shoot(member,'emoji')
    await member.keyboard.type('谢谢'); await member.keyboard.press('Enter')
    await member.waitForSelector('.emoji',{state:'detached'})
    await member.keyboard.type('稍等')
    console.log('composer:', await member.inputValue('.composer textarea'))
    await member.press('.composer textarea','Enter')
    await visitor.waitForSelector('text=您好，🙏稍等')
    // unsent over a reload
    let blocked=true; const keys=[]
    await member.route(/\/conversations\/[^/]+\/messages$/, (route)=>{ if(route.request().method()!=='POST') return route.continue(); keys.push(route.request().headers()['idempotency-key']); return blocked? route.abort(): route.continue()})
    await member.keyboard.type('这条会在刷新后发出'); await member.keyboard.press('Enter')
    await member.waitForSelector('.failed:has-text("没有收到")')
    await shoot(member,'unsent')
    blocked=false
    await member.reload()
    await visitor.waitForSelector('text=这条会在刷新后发出')
    await member.waitForSelector('.message.human:has-text("这条会在刷新后发出") .mark')
    console.log('keys', keys, 'stored', await member.evaluate(()=>Object.keys(localStorage).filter(k=>k.startsWith('botyard.unsent'))))
    // held
    blocked=true
    await member.waitForSelector('.composer textarea'); await member.fill('.composer textarea','旧的回复'); await member.press('.composer textarea','Enter')
    await member.waitForSelector('.failed')
    await member.evaluate(()=>{ for (const k of Object.keys(localStorage).filter(k=>k.startsWith('botyard.unsent'))) { const v=JSON.parse(localStorage[k]); v.at=new Date(Date.now()-3600e3).toISOString(); localStorage[k]=JSON.stringify(v)} })
    blocked=false
    await member.reload(); await member.waitForSelector('.failed:has-text("没有得到确认")'); await shoot(member,'held')
    await member.click('.failed button:has-text("发送")')
    await visitor.waitForSelector('text=旧的回复')
    // close → rating
    await member.keyboard.press('Escape'); await member.locator('.log').first().focus(); await member.keyboard.press('e')
    await visitor.waitForSelector('.rating', {timeout:60000})
    await shoot(visitor,'rating')
    await visitor.reload(); await visitor.waitForSelector('.rating')
    await visitor.locator('.rating input').nth(3).focus(); await visitor.keyboard.press('Space')
    await visitor.fill('.rating textarea','回复很快')
    await shoot(visitor,'rating-chosen')
    await visitor.click('.rating-send')
    await visitor.waitForSelector('.rating',{state:'detached'})
    await visitor.waitForSelector('text=感谢您的评价',{timeout:60000})
    await shoot(visitor,'rated')
    await visitor.reload(); await visitor.waitForSelector('text=感谢您的评价'); await visitor.waitForTimeout(1500)
    console.log('asked again:', await visitor.locator('.rating').count())
    await member.waitForSelector('.message.theirs:has-text("★★★★☆")'); await shoot(member,'rated-member')
  })
  const avg=await (await fetch(there.address('/api/v1/routing/ratings'),{headers:{authorization:`Bearer ${t}`}})).json(); console.log('rating', avg.items?.[0]?.score)
})
