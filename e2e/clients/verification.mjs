// People verify each other and their own devices by comparing emoji (SAS), each with
// a real client (matrix-js-sdk and its Rust crypto), with a running server:
// node verification.mjs http://127.0.0.1:8008
//
// Every line printed was seen by the client of the person named, or is what the
// server answers when it is asked for keys directly. The first thing that is not as
// it should be ends the script with status 1. The server must allow open registration.

import * as sdk from "matrix-js-sdk";
import { CryptoEvent, VerificationPhase, VerificationRequestEvent, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import assert from "node:assert/strict";

import { encryptedRoom, logIn, password, reads, register, sign, until, write } from "./people.mjs";
import { expectAborts, run, say } from "./script.mjs";

/** Has one side ask, by ask(), and the other side see it: the request, as each of them holds it. */
async function request(from, to, ask) {
    let theirs;
    to.client.once(CryptoEvent.VerificationRequestReceived, (r) => (theirs = r));
    const mine = await ask();
    await until(`${to.name} sees the request`, to.client, [CryptoEvent.VerificationRequestReceived], () => theirs);
    assert.deepEqual([theirs.otherUserId, theirs.otherDeviceId ?? from.device], [from.id, from.device]);
    await theirs.accept();
    await until(`${from.name} sees that the request is accepted`, mine, [VerificationRequestEvent.Change], () => mine.phase === VerificationPhase.Ready);
    return [mine, theirs];
}

/** Waits for the emoji that a verifier shows; outcome settles when it is through. */
async function emoji(verifier) {
    const outcome = verifier.verify();
    outcome.catch(() => {}); // who awaits it sees it
    const sas = await until("emoji are shown", verifier, [VerifierEvent.ShowSas, VerifierEvent.Cancel], () => verifier.getShowSasCallbacks());
    return { sas, outcome };
}

/** Both sides of a request show the same seven emoji. */
async function compare([mine, theirs]) {
    const starter = await mine.startVerification("m.sas.v1");
    const other = await until("the other side has started", theirs, [VerificationRequestEvent.Change], () => theirs.verifier);
    const sides = await Promise.all([starter, other].map(emoji));
    const [one, two] = sides.map(({ sas }) => sas.sas.emoji.map(([symbol]) => symbol).join(" "));
    assert.equal(one, two, "both sides show the same emoji");
    assert.equal(one.split(" ").length, 7);
    return { emoji: one, sides };
}

/** Both sides say that the emoji are the same, and both are through. */
async function agree(request) {
    const { emoji, sides } = await compare(request);
    await Promise.all(sides.map(({ sas }) => sas.confirm()));
    for (const r of request) {
        await until("the verification is done", r, [VerificationRequestEvent.Change], () => r.phase === VerificationPhase.Done);
    }
    await Promise.all(sides.map(({ outcome }) => outcome));
    return emoji;
}

/** What the server tells somebody who asks for a user's keys. */
const keysOf = (person, user) => person.client.http.authedRequest(sdk.Method.Post, "/keys/query", undefined, { device_keys: { [user]: [] } });

/** Who of a user's keys has signed a thing, by key ID. */
const signers = (thing, user) => Object.keys(thing.signatures?.[user] ?? {});

const keyIds = (thing) => Object.keys(thing.keys);

const verified = async (person, of) => (await person.crypto.getUserVerificationStatus(of.id)).isCrossSigningVerified();

const trusts = async (person, of) => (await person.crypto.getDeviceVerificationStatus(of.id, of.device))?.crossSigningVerified;

/** Waits until somebody's client has heard of a device. */
const knows = (person, of) =>
    until(`${person.name} knows ${of.device}`, person.client, [CryptoEvent.DevicesUpdated, sdk.ClientEvent.Sync], async () =>
        (await person.crypto.getUserDeviceInfo([of.id], true)).get(of.id)?.has(of.device));

/** A second device of Alice's is verified by the first, and has her secrets from it. */
async function ownDevice(alice, bob) {
    const phone = await logIn(alice);
    assert.ok(!(await trusts(alice, phone)) && !(await trusts(phone, alice)), "nothing is verified before");
    // The library drops requests of devices that it does not know yet.
    for (const [who, device] of [[bob, phone], [alice, phone], [phone, alice]]) await knows(who, device);
    assert.ok(!(await bob.crypto.getDeviceVerificationStatus(alice.id, phone.device)).signedByOwner, "nobody has signed the phone");

    const shown = await agree(await request(phone, alice, () => phone.crypto.requestOwnUserVerification()));
    say("Alice", `compared ${shown} on her laptop and her phone`);
    const all = [CryptoEvent.DevicesUpdated, CryptoEvent.KeysChanged, CryptoEvent.UserTrustStatusChanged, sdk.ClientEvent.Sync];
    await until("the laptop trusts the phone", alice.client, all, () => trusts(alice, phone));
    await until("the phone trusts the laptop", phone.client, all, () => trusts(phone, alice));
    await until("Bob sees that Alice has signed her phone", bob.client, all, async () =>
        (await bob.crypto.getDeviceVerificationStatus(alice.id, phone.device)).signedByOwner);
    await until("the phone has the secrets", phone.client, [...all, sdk.ClientEvent.ToDeviceEvent], async () =>
        Object.values((await phone.crypto.getCrossSigningStatus()).privateKeysCachedLocally).every(Boolean));
    say("Alice", "trusts both of her devices on both, and the phone was given her secrets");

    const seen = await keysOf(bob, alice.id);
    assert.ok(signers(seen.device_keys[alice.id][phone.device], alice.id).includes(keyIds(seen.self_signing_keys[alice.id])[0]), "the phone is signed");
    say("server", "tells Bob that the phone is signed by Alice");
    return phone;
}

/** Alice and Bob verify each other in their room; what they see differs first. */
async function eachOther(alice, phone, bob, room) {
    for (const [who, device] of [[alice, bob], [bob, alice], [phone, bob], [bob, phone]]) await knows(who, device);
    const ask = () => alice.crypto.requestVerificationDM(bob.id, room);
    const requested = await request(alice, bob, ask);
    const doubtful = await compare(requested);
    doubtful.sides[1].sas.mismatch();
    for (const r of requested) {
        await until("the verification is called off", r, [VerificationRequestEvent.Change], () => r.phase === VerificationPhase.Cancelled);
    }
    for (const { outcome } of doubtful.sides) await assert.rejects(outcome);
    assert.ok(!(await verified(alice, bob)) && !(await verified(bob, alice)), "nobody is verified by emoji that differ");
    say("Bob", "said that the emoji differ: nobody is verified");

    const shown = await agree(await request(alice, bob, ask));
    say("Alice", `and Bob compared ${shown} in their room`);
    const all = [CryptoEvent.UserTrustStatusChanged, CryptoEvent.KeysChanged, CryptoEvent.DevicesUpdated, sdk.ClientEvent.Sync];
    await until("Alice has verified Bob", alice.client, all, () => verified(alice, bob));
    await until("Bob has verified Alice", bob.client, all, () => verified(bob, alice));
    await until("Alice's phone knows", phone.client, all, () => verified(phone, bob));
    for (const [who, of] of [[alice, bob], [bob, alice], [bob, phone], [phone, bob]]) {
        assert.ok(await trusts(who, of), `${who.name} trusts ${of.device}`);
    }
    say("Alice", "and Bob have verified each other; her phone knows it too");

    // Whom one has verified is nobody else's business.
    // spec: client-server-api §key-and-signature-security
    const carol = await register("Carol");
    for (const [who, of] of [[alice, bob], [bob, alice]]) {
        const own = await keysOf(who, who.id);
        const seen = await keysOf(who, of.id);
        assert.deepEqual(signers(seen.master_keys[of.id], who.id), keyIds(own.user_signing_keys[who.id]), "signed by the user-signing key");
        const stranger = await keysOf(carol, of.id);
        assert.deepEqual(signers(stranger.master_keys[of.id], who.id), []);
        assert.ok(!stranger.user_signing_keys?.[of.id]);
    }
    say("server", "tells Alice and Bob of their own signatures, and Carol of neither");
    carol.client.stopClient();
}

/** The laptop removes the phone, with the password. */
async function remove(alice, phone, bob, room) {
    phone.client.stopClient();
    const uia = await alice.client.deleteDevice(phone.device).then(() => assert.fail("removed without a password"), (err) => err.data);
    await alice.client.deleteDevice(phone.device, {
        type: "m.login.password", identifier: { type: "m.id.user", user: alice.id }, password, session: uia.session,
    });
    await assert.rejects(phone.client.whoami(), (err) => err.errcode === "M_UNKNOWN_TOKEN");
    for (const who of [alice, bob]) {
        await until(`${who.name} sees the phone go`, who.client, [CryptoEvent.DevicesUpdated, sdk.ClientEvent.Sync], async () =>
            !(await who.crypto.getUserDeviceInfo([alice.id])).get(alice.id)?.has(phone.device));
        assert.ok(!(await trusts(who, phone)));
        assert.deepEqual(Object.keys((await keysOf(who, alice.id)).device_keys[alice.id]), [alice.device]);
    }
    assert.ok(await verified(bob, alice), "Alice herself is as verified as before");
    say("Bob", "knows Alice's phone no more, and has her verified still");
    say("Alice", `reads: ${await reads(alice, room, await write(bob, room, "Only your laptop now."))}`);
}

async function verification() {
    const [alice, bob] = await Promise.all([register("Alice"), register("Bob")]);
    await sign(alice);
    await sign(bob);
    const room = await encryptedRoom(alice, [bob]);
    const phone = await ownDevice(alice, bob);
    await eachOther(alice, phone, bob, room);
    const id = await write(bob, room, "I know who you are.");
    for (const device of [alice, phone]) say("Alice", `reads on ${device === phone ? "the phone" : "the laptop"}: ${await reads(device, room, id)}`);
    await remove(alice, phone, bob, room);
    for (const p of [alice, bob]) p.client.stopClient();
}

expectAborts();
run(verification);
